"""Declare and check the settings of ChatDAMI, and identify a model by them; nothing here opens anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from langchain_core.language_models import BaseChatModel, LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from pydantic import ConfigDict, Field, InstanceOf, SecretStr, field_serializer, field_validator, model_validator
from typing_extensions import Self

from dami_agent.chat_model import request
from dami_agent.chat_model.caching import PolicyCachedChatModel
from dami_agent.chat_model.langchain_errors import langchain_errors
from dami_agent.chat_model.pair_names import check_pair, with_pair
from dami_agent.chat_model.profile import default_temperature, folder_of, profile_of
from dami_agent.chat_model.tokens import CountingChatModel
from dami_agent.chat_model.tracked import TrackedChatModel
from dami_agent.checkpoints.pair import both_or_neither
from dami_agent.errors import InvalidRequest
from dami_agent.estimators import AutoEstimator, estimator_named
from dami_agent.policy import EFFORTS, BudgetTracker, ReasoningPolicy
from dami_agent.policy.registry import read_policy
from dami_agent.types import BUILTIN, IntensityRequest, ModuleIntensity, PrefixMode, modules_of


class ConfiguredChatModel(PolicyCachedChatModel, TrackedChatModel, CountingChatModel):
    """Hold the settings of a model, checked, and its identity; use :class:`~dami_agent.chat_model.ChatDAMI`."""

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    instruct: str | None = Field(default=None, description="Instruct checkpoint: folder or hub id")
    thinking: str | None = Field(default=None, description="Thinking checkpoint: folder or hub id")
    revision: str | None = Field(default=None, description="hub revision of both")
    device: str = Field(default="auto", description="torch device, or auto")
    dtype: str = Field(default="auto", description="torch dtype, or auto")
    weights_mode: Literal["auto", "merged", "mixed"] = Field(default="auto", description="how θ(λ) is held")
    context_length: int | None = Field(default=None, description="tokens of prompt and reply together")
    max_batch_size: int | None = Field(default=None, description="requests decoded together at most")
    keep_reasoning: Literal["template", "all", "none"] = Field(
        default="template", description="which earlier thoughts stay in the prompt; template: as the family's does"
    )
    closing_words: str | None = Field(
        default=None, description="written before </think> where a thought is cut short; None: the family's own"
    )
    engine: Any = Field(default="local", description="entry-point name of an engine, or an Engine", exclude=True)
    dialogue: Any = Field(default=None, description="the Dialogue of an Engine given as object", exclude=True)
    estimator: Any = Field(
        default_factory=AutoEstimator, description="λ(q): an Estimator or a registered name", exclude=True
    )
    policy: InstanceOf[ReasoningPolicy] | None = Field(
        default=None, description="ReasoningPolicy, file, preset or dict; None: the default policy", exclude=True
    )
    budgets: InstanceOf[BudgetTracker] = Field(
        default_factory=BudgetTracker,
        description="accounts of the policy's budgets; give two models one tracker to have them share accounts",
        exclude=True,
        repr=False,
    )
    ledger: Any = Field(default=None, description="Ledger, path or URL; None: DAMI_LEDGER or the default", exclude=True)

    reasoning_intensity: float | str | None = Field(default=None, description="per call: λ, one per module, or auto")
    reasoning_effort: str | None = Field(default=None, description=f"per call: one of {', '.join(EFFORTS)}")
    temperature: float | None = Field(default=None, description="per call; None: the checkpoints' own")
    top_p: float | None = Field(default=None, description="per call")
    top_k: int | None = Field(default=None, description="per call")
    min_p: float | None = Field(default=None, description="per call")
    repetition_penalty: float | None = Field(default=None, description="per call")
    seed: int | None = Field(default=None, description="per call: of the request's own random stream")
    max_tokens: int | None = Field(default=None, description="per call: thought and answer together")
    max_reasoning_tokens: int | None = Field(default=None, description="per call: cap of the thought")
    stop: list[str] | str | None = Field(default=None, description="per call: strings that end the answer")
    timeout: float | None = Field(default=None, description="per call: seconds until DeadlineExceeded")
    prefix: PrefixMode | None = Field(default=None, description="per call: prompts read exact, shared or auto")
    logprobs: bool | None = Field(default=None, description="per call: log-probs in response_metadata")
    top_logprobs: int | None = Field(default=None, description="per call: alternatives beside each token")

    stream_usage: bool = Field(default=True, description="per call: usage_metadata on a stream's last chunk")
    streaming: bool = Field(default=False, description="accepted for LangChain's sake; stream with .stream()")
    max_retries: int = Field(default=2, description="accepted for LangChain's sake; nothing here fails transiently")
    base_url: str | None = Field(default=None, description="of a `dami serve`; None: the model runs here")
    api_key: SecretStr | None = Field(
        default=None, description="of the server at base_url; None: as DAMI_API_KEY says", exclude=True
    )
    bound_settings: dict[str, Any] = Field(default_factory=dict, description="what bind gave", exclude=True, repr=False)

    # ---- construction -------------------------------------------------------------------------------------------

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, values: Any) -> Any:
        """Refuse unknown init arguments: LangChain drops them silently, and a misspelt budget must not be lost."""
        if not isinstance(values, Mapping):
            return values
        values = with_pair({request.ALIASES.get(name, name): value for name, value in values.items()})
        for name in values:
            if name not in cls.model_fields and name != "stop_sequences":
                if name in request.CALL_ONLY:
                    raise InvalidRequest(f"{name} cannot be given at init", hint="give it per call, or bind it")
                own = set(cls.model_fields) - set(BaseChatModel.model_fields) | {"model", "tags", "metadata"}
                raise request.unknown_setting(name, "ChatDAMI()", own - {"bound_settings", "dialogue"})
        return values

    @field_validator("reasoning_intensity", mode="wrap")
    @classmethod
    def _valid_intensity(cls, value: Any, validate: Callable[[Any], Any]) -> Any:
        found = request.intensity(value)
        return found if isinstance(found, ModuleIntensity) else validate(found)  # which would make a number of it

    @field_validator("reasoning_effort", mode="before")
    @classmethod
    def _valid_effort(cls, value: Any) -> Any:
        return request.effort(value)

    @field_validator("estimator", mode="before")
    @classmethod
    def _find_estimator(cls, value: Any) -> Any:
        return estimator_named(value) if isinstance(value, str) else value

    @field_validator("policy", mode="before")
    @classmethod
    def _read_policy(cls, value: Any) -> Any:
        return read_policy(value)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        both_or_neither(self.instruct, self.thinking)
        if self.base_url is not None:
            self._refuse_what_the_server_decides(self.base_url)
        request.limits(self._own_settings(), self.stop, None)
        request.sampling(self._own_settings())
        request.prefix(self._own_settings())
        return self

    def _refuse_what_the_server_decides(self, base_url: str) -> None:
        decided = ("instruct", "thinking", "revision", "device", "dtype", "weights_mode", "context_length")
        for name in (*decided, "max_batch_size", "engine"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise InvalidRequest(
                    f"{name} and base_url={base_url!r} exclude each other",
                    hint=f"the server decides: give {name} to `dami serve`, or leave base_url out",
                )

    # ---- identity -----------------------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "dami"

    @property
    def model_name(self) -> str:
        """Return the pair's name; of one that is served, where."""
        if self.base_url is not None:
            return self.base_url
        return BUILTIN if self.instruct is None else f"{self.instruct}+{self.thinking}"

    def _check_pair(self, call: Mapping[str, Any]) -> None:
        """Refuse a pair that another ChatDAMI runs.

        Raises:
            InvalidRequest: ``model`` or ``model_name`` names it.
        """
        for key in ("model", "model_name"):
            if call.get(key) is not None:
                check_pair(key, call[key], self.model_name, (self.instruct, self.thinking))

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Return all that changes an answer: λ, estimator, policy and weights mode are part of every cache key."""
        return {
            "model_name": self.model_name,
            "revision": self.revision,
            "device": self.device,
            "dtype": self.dtype,
            "weights_mode": self.weights_mode,
            "context_length": self.context_length,
            "keep_reasoning": self.keep_reasoning,
            "closing_words": self.closing_words,
            "engine": self.engine if isinstance(self.engine, str) else repr(self.engine),
            "estimator": repr(self.estimator),
            "policy": repr(self.policy),
            "stop": self.stop,
            **({} if self.stream_usage else {"stream_usage": False}),
            **request.merge_levels(self._levels({})),
        }

    @langchain_errors()  # LangChain asks before the call begins; a bad setting is found here first
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        given = request.merge_levels([*self._levels({}), ("call", kwargs)])
        params = super()._get_ls_params(stop=stop or self._stops(None), **{**given, **kwargs})
        params["ls_provider"] = "dami"
        params["ls_model_name"] = kwargs.get("model") or self.model_name
        depth = request.intensity_request([*self._levels({}), ("call", kwargs)])
        own: dict[str, Any] = {
            "ls_reasoning_effort": depth.effort,
            "ls_reasoning_intensity": _plain(depth.intensity),
            "ls_temperature": given.get("temperature", self._default_temperature(depth)),
            "ls_policy": (self.policy or ReasoningPolicy()).name,
        }
        return cast("LangSmithParams", {**params, **{name: value for name, value in own.items() if value is not None}})

    def _default_temperature(self, depth: IntensityRequest) -> float | None:
        """Return the checkpoints' temperature, where it is known before the call: a policy may choose another λ."""
        if not isinstance(self.engine, str):
            return None
        return default_temperature(self._folders(), depth.intensity if self.policy is None else None)

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Show the pair, and what was given that is not the default; the policy by name."""
        yield "model", self.model_name
        for name in ("tags", *(f for f in ConfiguredChatModel.__annotations__ if not f.startswith("_"))):
            value, field = getattr(self, name), type(self).model_fields[name]
            if (
                name in ("instruct", "thinking", "dialogue")
                or value is None
                or value == field.default
                or not field.repr
            ):
                continue
            if isinstance(value, ReasoningPolicy):
                value = value.name
            if field.default_factory is None or repr(value) != repr(field.get_default(call_default_factory=True)):
                yield name, value

    def _resolve_model_profile(self) -> ModelProfile | None:
        engine = None if isinstance(self.engine, str) else self.engine
        return profile_of(self.model_name, self._folders(), self.context_length, engine=engine)

    def _folders(self) -> tuple[Path | None, ...]:
        """Return where the checkpoints' small files lie, None for those that are not on this machine yet."""
        if self.base_url is not None:
            return None, None
        return tuple(
            folder_of(checkpoint, side, self.revision)
            for checkpoint, side in ((self.instruct, "instruct"), (self.thinking, "thinking"))
        )

    # ---- settings ------------------------------------------------------------------------------------------------

    @field_serializer("reasoning_intensity", when_used="json")
    def _intensity_text(self, value: Any) -> Any:
        return _plain(value)

    def _own_settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in request.SETTINGS}

    def _levels(self, call: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        return [("init", self._own_settings()), ("bind", self.bound_settings), ("call", call)]

    def _stops(self, stop: Sequence[str] | str | None) -> Any:
        return stop if stop is not None else self.stop


def _plain(intensity: Any) -> Any:
    """Return λ as others read it: a number, the text of one per module, ``"auto"`` or None."""
    return (modules_of(intensity) or float(intensity)) if isinstance(intensity, float) else intensity
