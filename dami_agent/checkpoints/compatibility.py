"""Verify that two checkpoints are fine-tunings of one base, so that θ(λ) = (1−λ)·θ_I + λ·θ_T means something.

Compared: architecture, every config field that changes the computation, the parameters as transformers lays them out,
ties, dtypes, vocabulary and special tokens; every difference is found. Then a sample of the weights tells whether they
come from one base. End-of-sequence ids are united and chat templates reported; they may differ.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dami_agent.checkpoints import kinship, refusals
from dami_agent.checkpoints import layout as layouts
from dami_agent.checkpoints.checkpoint import Checkpoint
from dami_agent.checkpoints.guard import guarded
from dami_agent.checkpoints.headers import stored_alike
from dami_agent.checkpoints.tokenizer_comparison import compare_vocabularies
from dami_agent.checkpoints.tokenizer_file import FILE
from dami_agent.errors import Mismatch

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ONE_BASE = "choose two checkpoints fine-tuned from one base"
FORCE = "DAMI_ALLOW_UNRELATED"
OWN_CONFIG = "the weights do not belong to this config.json; download or save the checkpoint again"
_BOOKKEEPING = """
    _name_or_path name_or_path transformers_version model_type architectures auto_map unsloth_fixed unsloth_version
    tokenizer_class task_specific_params problem_type id2label label2id num_labels finetuning_task"""
_HOW_IT_RUNS = """
    torch_dtype dtype use_cache return_dict output_hidden_states output_attentions output_router_logits
    _attn_implementation _attn_implementation_internal attn_implementation _experts_implementation torchscript
    pretraining_tp chunk_size_feed_forward"""
_TRAINING_ONLY = """
    initializer_range attention_dropout hidden_dropout dropout resid_pdrop embd_pdrop attn_pdrop hidden_dropout_prob
    attention_probs_dropout_prob classifier_dropout summary_first_dropout router_aux_loss_coef router_jitter_noise"""
_COMPARED_APART = "eos_token_id bos_token_id pad_token_id sep_token_id decoder_start_token_id"
INERT = frozenset((_BOOKKEEPING + _HOW_IT_RUNS + _TRAINING_ONLY + " " + _COMPARED_APART).split())
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True, slots=True)
class Check:
    """Reports one examined point: ``ok``, ``note`` (worth knowing), ``warning`` (likely a mistake) or ``mismatch``."""

    name: str
    status: Literal["ok", "note", "warning", "mismatch"]
    detail: str


@dataclass(frozen=True)
class Inspection:
    """Holds what comparing found: all ``mismatches``, the ``checks`` for people, the common layout if they fit."""

    mismatches: tuple[Mismatch, ...]
    checks: tuple[Check, ...]
    layout: layouts.Layout | None


def compare(instruct: Checkpoint, thinking: Checkpoint, *, allow_unrelated: bool | None = None) -> Inspection:
    """Compare two opened checkpoints; reads headers, JSON and, where they fit so far, a sample of the weights.

    Args:
        instruct: λ=0.
        thinking: λ=1.
        allow_unrelated: whether two models without a common base get a warning and are not refused; None: as the
            environment's ``DAMI_ALLOW_UNRELATED`` says.

    Raises:
        UnsupportedCheckpoint: one of them is of no architecture that transformers ships.
        CheckpointError: a config that is not valid by itself.
    """
    what = f"{instruct.source} and {thinking.source} cannot be compared"
    with guarded(what, hint="compare their files with the family's published ones"):
        return _compare(instruct, thinking, _forced() if allow_unrelated is None else allow_unrelated)


def _forced() -> bool:
    return os.environ.get(FORCE, "").strip().lower() in ("1", "true", "yes", "on")


def _compare(instruct: Checkpoint, thinking: Checkpoint, allow_unrelated: bool) -> Inspection:
    both = instruct, thinking
    found: list[Mismatch] = []
    checks: list[Check] = []

    def close(name: str, mismatches: list[Mismatch], detail: str) -> None:
        found.extend(mismatches)
        checks.append(Check(name, "mismatch", f"{len(mismatches)} found") if mismatches else Check(name, "ok", detail))

    ignored = [note for c in both if (note := refusals.refuse_foreign_code(c.config, _native(c), c.source))]
    architecture = _architecture(instruct, thinking)
    close("architecture", architecture, f"{_native(instruct)} (transformers' own class)")
    configs = instruct.model_config(), thinking.model_config()
    fields, notes = ([], []) if architecture else _config_fields(*configs)
    if not architecture:
        close("config", fields, "every field that changes the computation is equal")
    parameters, layout = _parameters(instruct, thinking, configs, same=not (architecture or fields or notes))
    for checkpoint in both:
        refusals.refuse_integers(layout.parameters, checkpoint.tensors, checkpoint.source)
    close("parameters", parameters, f"{_size(layout)} in {len(layout.parameters)} tensors")
    if not parameters:
        ties, detail, stored = _ties(both, layout)
        close("ties", ties, detail)
        checks += [Check("ties", "note", note) for note in stored]
    close("dtypes", _dtypes(instruct, thinking), f"stored as {instruct.dtype}")
    vocabulary, remarks = compare_vocabularies(instruct, thinking)
    close("vocabulary", vocabulary, "token ids, merges and special tokens are equal")
    checks += [Check("vocabulary", "note", f"{FILE}: {remark}") for remark in remarks]
    checks += [Check("code", "note", note) for note in ignored] + [Check("context", "note", note) for note in notes]
    checks += [_ends(instruct, thinking), _templates(instruct, thinking)]
    if not found:
        check, unrelated = _kinship(instruct, thinking, allow_unrelated)
        found += unrelated
        checks.append(check)
    if reason := kinship.swapped(instruct, thinking):
        checks.append(Check("roles", "warning", f"the two look swapped: {reason}; λ would turn thinking off, not on"))
    return Inspection(tuple(found), tuple(checks), None if found else layout)


def _kinship(instruct: Checkpoint, thinking: Checkpoint, allow_unrelated: bool) -> tuple[Check, list[Mismatch]]:
    """Judge by a sample of the weights whether they come from one base."""
    if not (instruct.downloaded and thinking.downloaded):
        return Check("kinship", "note", "measured once the weights are here"), []
    found = kinship.measure(instruct, thinking)
    if found.verdict == "unrelated":
        detail = f"unrelated models: {found}"
        if allow_unrelated:
            return Check("kinship", "warning", f"{detail}; blends of such models produce noise"), []
        remedy = f"{ONE_BASE}; to blend them anyway, set {FORCE}=1 or pass allow_unrelated=True"
        related = f"related models have a cosine of {kinship.FAR} and more"
        mismatch = Mismatch("safetensors", "kinship", detail, related, remedy)
        return Check("kinship", "mismatch", detail), [mismatch]
    if found.verdict == "equal":
        same = "one folder is given twice" if instruct.path == thinking.path else "the two hold the same weights"
        return Check("kinship", "warning", f"equal: {same}, so λ changes nothing ({found.tensors} tensors)"), []
    if found.verdict == "far":
        return Check("kinship", "warning", f"far apart: {found}; measure what λ between 0 and 1 does: dami bench"), []
    return Check("kinship", "ok" if found.verdict == "related" else "note", str(found)), []


def _native(checkpoint: Checkpoint) -> str | None:
    return layouts.native_class(checkpoint.config)


def _architecture(instruct: Checkpoint, thinking: Checkpoint) -> list[Mismatch]:
    return [
        Mismatch("config.json", "model_type", str(a), str(b), ONE_BASE)
        for a, b in [(instruct.config.get("model_type"), thinking.config.get("model_type"))]
        if a != b
    ]


def _config_fields(a: PreTrainedConfig, b: PreTrainedConfig) -> tuple[list[Mismatch], list[str]]:
    """List differences after transformers filled in every default; and notes on those that do no harm."""
    left, right = (_flat(c.to_dict()) for c in (a, b))
    for flat in (left, right):
        if not flat.get("use_sliding_window", True) or "layer_types" in flat:
            flat.pop("max_window_layers", None)  # spelt out per layer in layer_types, or without effect
    found, notes = [], []
    for key in sorted(left.keys() | right.keys()):
        x, y = left.get(key), right.get(key)
        if x == y or key.rsplit(".", 1)[-1] in INERT:
            continue
        if key == "max_position_embeddings" and left.get("rope_parameters.rope_type") == "default":
            notes.append(f"context windows differ ({x} and {y}); the smaller one holds, positions are computed alike")
            continue
        found.append(Mismatch("config.json", key, str(x), str(y), ONE_BASE))
    return found, notes


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and key not in INERT:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _parameters(
    instruct: Checkpoint, thinking: Checkpoint, configs: tuple[PreTrainedConfig, PreTrainedConfig], same: bool
) -> tuple[list[Mismatch], layouts.Layout]:
    """Compare each checkpoint with its own module, and the two modules; ``same``: the configs agree."""
    a, findings_a = layouts.dry_load(instruct.tensors, configs[0])
    if same and _stored_shapes(instruct) == _stored_shapes(thinking):  # then the loader would say the same again
        b, findings_b = a, findings_a
    else:
        b, findings_b = layouts.dry_load(thinking.tensors, configs[1])
    found = []
    for name, fields in _grouped(n for n in a.parameters.keys() | b.parameters.keys()):
        x, y = ({str(list(s.parameters[f])) if f in s.parameters else "absent" for f in fields} for s in (a, b))
        if any(a.parameters.get(f) != b.parameters.get(f) for f in fields):
            found.append(Mismatch("parameters", name, "/".join(sorted(x)), "/".join(sorted(y)), ONE_BASE))
    if a.tied != b.tied:
        found.append(Mismatch("parameters", "ties", str(dict(a.tied)), str(dict(b.tied)), ONE_BASE))
    return found + _stored(findings_a, findings_b), a


def _stored_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {name: entry.shape for name, entry in checkpoint.tensors.items()}


def _stored(a: layouts.LoadFindings, b: layouts.LoadFindings) -> list[Mismatch]:
    """List what the loader found wrong in the files of either."""
    found = []
    for name, fields in _grouped({*a.missing, *b.missing}):
        x, y = ("missing" if set(fields) & set(f.missing) else "there" for f in (a, b))
        found.append(Mismatch("safetensors", name, x, y, OWN_CONFIG))
    for name, fields in _grouped({*a.unexpected, *b.unexpected}):
        x, y = ("unexpected" if set(fields) & set(f.unexpected) else "absent" for f in (a, b))
        found.append(Mismatch("safetensors", name, x, y, OWN_CONFIG))
    for name in sorted({*a.misshapen, *b.misshapen}):
        x, y = ("{} for a module of {}".format(*f.misshapen[name]) if name in f.misshapen else "fits" for f in (a, b))
        found.append(Mismatch("safetensors", name, x, y, OWN_CONFIG))
    if a.failed or b.failed:
        found.append(Mismatch("safetensors", "layout", a.failed or "loads", b.failed or "loads", OWN_CONFIG))
    return found


def _grouped(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Group names that differ only in their layer number: ``model.layers.*.mlp.up_proj.weight (36 tensors)``."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_LAYER.sub("*", name), []).append(name)
    return [
        (key if len(g) > 1 else g[0], g) if len(g) == 1 else (f"{key} ({len(g)} tensors)", g)
        for key, g in groups.items()
    ]


def _dtypes(instruct: Checkpoint, thinking: Checkpoint) -> list[Mismatch]:
    """Require one dtype for tensors of one name: a lerp between dtypes would hide a lossy conversion."""
    common = instruct.tensors.keys() & thinking.tensors.keys()
    differing: dict[tuple[str, str], list[str]] = {}
    for name in sorted(common):
        dtypes = instruct.tensors[name].dtype, thinking.tensors[name].dtype
        if dtypes[0] != dtypes[1]:
            differing.setdefault(dtypes, []).append(name)
    remedy = "save both in one dtype: AutoModelForCausalLM.from_pretrained(..., dtype=...).save_pretrained(...)"
    return [
        Mismatch("safetensors", f"dtype of {name}", a, b, remedy)
        for (a, b), names in differing.items()
        for name, _ in _grouped(names)
    ]


def _ties(checkpoints: tuple[Checkpoint, Checkpoint], layout: layouts.Layout) -> tuple[list[Mismatch], str, list[str]]:
    """Refuse a tied weight stored apart with other values: the loader would silently untie it."""
    found, notes = [], []
    for name, target in layout.tied.items():
        sides = []
        for c in checkpoints:
            both = c.downloaded and name in c.tensors and target in c.tensors
            alike = not both or stored_alike(c.path, c.tensors, name, target)
            sides.append(f"tied to {target}" if alike else f"stored with other values than {target}")
            if both and alike:
                notes.append(f"{c.source} stores {name} too, with the values of {target}")
        if any(side.startswith("stored") for side in sides):
            remedy = f"set tie_word_embeddings to false in both and store {name} in both, or drop it from the files"
            found.append(Mismatch("safetensors", name, sides[0], sides[1], remedy))
    detail = ", ".join(f"{name} is {target}" for name, target in layout.tied.items())
    return found, detail or "no tied weights", notes


def _ends(instruct: Checkpoint, thinking: Checkpoint) -> Check:
    a, b = instruct.eos_token_ids, thinking.eos_token_ids
    if set(a) == set(b):
        return Check("end of sequence", "ok", f"ids {list(a)}")
    return Check("end of sequence", "note", f"instruct stops at {list(a)}, thinking at {list(b)}: the union stops both")


def _templates(instruct: Checkpoint, thinking: Checkpoint) -> Check:
    a, b = instruct.chat_template, thinking.chat_template
    if a is None or b is None:
        lacking = " and ".join(c.source for c in (instruct, thinking) if c.chat_template is None)
        return Check("chat template", "note", f"none in {lacking}: chat messages cannot be rendered with it")
    if a == b:
        return Check("chat template", "ok", "equal")
    opens = [name for name, text in (("instruct", a), ("thinking", b)) if kinship.opens_thought(text)]
    by = f"; {' and '.join(opens)} may open <think> itself" if opens else ""
    return Check("chat template", "note", f"differ ({len(a)} and {len(b)} characters){by}: each λ uses its own side's")


def _size(layout: layouts.Layout) -> str:
    total = sum(math.prod(shape) for shape in layout.parameters.values())
    return f"{total / 1e9:.3f} G parameters" if total >= 1e7 else f"{total:,} parameters"
