"""Build what transformers makes of a checkpoint: its native config, and the module's parameters on the meta device.

Checkpoints are compared in the *loaded module's* layout, not by the names in their files: transformers fuses, splits
and renames tensors while it loads (a mixture of experts is stored per expert and held fused). Its own loader runs here
over tensors without data, so that missing, unexpected and misshapen ones are found as the real load would find them.
No weight is read, and no code from a checkpoint is run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dami_agent.checkpoints import loading, refusals
from dami_agent.checkpoints.guard import guarded
from dami_agent.errors import CheckpointError, UnsupportedCheckpoint

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from dami_agent.checkpoints.headers import TensorEntry


@dataclass(frozen=True)
class Layout:
    """Describes the loaded module's parameters.

    Attributes:
        parameters: name → shape, each tied parameter once.
        tied: name → name of the parameter it shares its storage with.
    """

    parameters: Mapping[str, tuple[int, ...]] = field(repr=False)
    tied: Mapping[str, str]


@dataclass(frozen=True)
class LoadFindings:
    """Holds what the loader would say about a checkpoint's tensors. All empty: it fits its own config.

    Attributes:
        missing: parameters of the module that no tensor fills.
        unexpected: stored tensors that no parameter takes.
        misshapen: parameter → (shape stored, shape expected), as text.
        failed: why the loader could not convert the tensors at all, or None.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    failed: str | None = None


def native_class(config: Mapping[str, Any]) -> str | None:
    """Name transformers' own causal language model class for this config, or None."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        return None
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    return str(name) if name else None


def model_config(config: Mapping[str, Any], source: str) -> PreTrainedConfig:
    """Build a config of transformers' own class for this ``model_type`` from a parsed config.json.

    Raises:
        UnsupportedCheckpoint: transformers has no causal language model of this ``model_type``.
    """
    from transformers import CONFIG_MAPPING

    refusals.refuse_foreign_code(config, native_class(config), source)
    plain = {key: value for key, value in config.items() if key != "auto_map"}
    what = f"{source}: config.json is not valid for model_type {config['model_type']!r}"
    with guarded(what, hint="compare it with the family's published config.json"), quiet_transformers():
        return CONFIG_MAPPING[config["model_type"]].from_dict(plain)


def empty_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Build the module on the meta device: structure, shapes and ties, no data.

    Raises:
        UnsupportedCheckpoint: the module cannot be built from this config.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    def build() -> PreTrainedModel:
        construct: Any = AutoModelForCausalLM.from_config  # untyped in transformers
        with quiet_transformers(), init_empty_weights(include_buffers=True):
            model: PreTrainedModel = construct(config, trust_remote_code=False)
        model.tie_weights()
        return model

    what, hint = f"transformers cannot build {type(config).__name__}", "compare config.json with the family's"
    with guarded(what, hint=hint, kind=UnsupportedCheckpoint):
        return loading.load(build)


def layout_of(model: PreTrainedModel) -> Layout:
    """Read the layout off a module (on any device)."""
    ties = getattr(model, "all_tied_weights_keys", None)
    tied = {str(k): str(v) for k, v in ties.items()} if isinstance(ties, Mapping) else {}
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if name not in tied}
    return Layout(shapes, tied)


def dry_load(stored: Mapping[str, TensorEntry], config: PreTrainedConfig) -> tuple[Layout, LoadFindings]:
    """Let transformers' loader place tensors without data; return the module's layout and what did not fit into it.

    Raises:
        UnsupportedCheckpoint: the module cannot be built from this config.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    tensors = {name: _without_data(entry) for name, entry in stored.items()}
    native: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    ties = getattr(native, "_tied_weights_keys", None) if getattr(config, "tie_word_embeddings", False) else None
    for name, target in ties.items() if isinstance(ties, Mapping) else ():
        if name in tensors and target in tensors:
            del tensors[name]  # stored though tied: the loader would compare values, and here are none
    options = {"device_map": "meta", "output_loading_info": True, "ignore_mismatched_sizes": True}

    def place() -> Any:
        with quiet_transformers():
            return native.from_pretrained(None, config=config, state_dict=dict(tensors), **options)

    try:
        model, info = loading.load(place)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a model's class makes of a config and tensors that it never expected
        layout = layout_of(empty_model(config))  # if the module itself cannot be built, this says so
        return layout, LoadFindings(failed=str(error).strip().partition("\n")[0] or repr(error))
    misshapen = {str(name): (_shape(has), _shape(wanted)) for name, has, wanted in info["mismatched_keys"]}
    found = LoadFindings(tuple(sorted(info["missing_keys"])), tuple(sorted(info["unexpected_keys"])), misshapen)
    return layout_of(model), found


def _without_data(entry: TensorEntry) -> Any:
    """Make a tensor on the meta device. torch is asked through accelerate: this layer does not import it."""
    from accelerate.utils import modeling
    from transformers.modeling_utils import str_to_torch_dtype

    return modeling.torch.empty(entry.shape, dtype=str_to_torch_dtype[entry.dtype], device="meta")


def _shape(size: Any) -> str:
    return str([int(n) for n in size])


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' load report and progress bars, and restore both on exit.

    The two switches are the process's, so this holds the lock of :mod:`dami_agent.checkpoints.loading`.
    """
    from transformers.utils import logging

    library: Any = logging  # partly untyped

    with loading.exclusively():
        level, bars = library.get_verbosity(), library.is_progress_bar_enabled()
        library.set_verbosity_error()
        library.disable_progress_bar()
        try:
            yield
        finally:
            library.set_verbosity(level)
            if bars:
                library.enable_progress_bar()
