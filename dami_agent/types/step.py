"""Define one chat-model call as the pipeline sees it, with its settings and its place in a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dami_agent.types.conversation import Message, Reply, ResponseFormat, Tool, ToolChoice
from dami_agent.types.intensity import Intensity, PrefixMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Says how tokens are drawn. None means: the checkpoints' ``generation_config`` (Thinking's for λ > 0).

    Attributes:
        temperature: 0 is greedy.
        top_p, top_k, min_p, repetition_penalty: as transformers' warpers define them.
        seed: of this request's own random stream, which the prompt's tokens decide beside it: different prompts draw
            independently; None draws a fresh one, which is recorded.
        logprobs: None for none, else how many alternatives beside the chosen token (0: only the chosen).
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds one call.

    Attributes:
        max_tokens: output tokens, thought and answer together; None: what the context window leaves.
        max_tokens_by: who set it: ``caller``, ``policy``, ``budget``, ``window`` (what it leaves) or ``frontier`` (a
            multiple of what the pair was measured to write, where nobody set one); "" where it is None.
        max_reasoning_tokens: cap of the thought; 0 closes it at once; None: no cap of its own.
            The cap in force is ``min(max_reasoning_tokens, max_tokens - answer_reserve)``.
        answer_reserve: tokens of ``max_tokens`` kept for the answer.
        stop: strings that end the answer (they do not act inside the thought); left out of the text.
        timeout: seconds from submission after which the call fails with ``DeadlineExceeded``.
    """

    max_tokens: int | None = None
    max_reasoning_tokens: int | None = None
    answer_reserve: int = 0
    stop: tuple[str, ...] = ()
    timeout: float | None = None
    max_tokens_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensityRequest:
    """Says what the caller asked about depth, after precedence (init < configurable < bind < middleware < call).

    ``intensity`` is λ (one, or one per module), ``"auto"`` (ask the estimator) or None; ``effort`` a LangChain effort
    name or None. A number beats an effort name. ``origin`` says where the winning value came from, for the reason.
    """

    intensity: Intensity | Literal["auto"] | None = None
    effort: str | None = None
    origin: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Says where in a run this step happens; all optional, all kept in the ledger.

    ``run_name`` and ``root_run_name`` are LangChain's names of the runs with ``run_id`` and ``root_run_id``.
    """

    call_id: str = ""
    run_id: str | None = None
    parent_run_id: str | None = None
    root_run_id: str | None = None
    thread_id: str | None = None
    node: str | None = None
    step: int | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    run_name: str | None = None
    root_run_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Holds one chat-model call as the pipeline sees it.

    Attributes:
        structured: an object is asked for, by a ``response_format`` or by the forced call that stands for one.
        check: of a structured output: what is wrong with a reply, "" if nothing is.
        prefix: how the prompt is read; None leaves it to the policy.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    structured: bool = False
    check: Callable[[Reply], str] | None = field(default=None, compare=False, repr=False)
    intensity_request: IntensityRequest = IntensityRequest()
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    prefix: PrefixMode | None = None
    run_context: RunContext = RunContext()

    @property
    def digested_tools(self) -> tuple[str, ...]:
        """Name the tools whose results this step reads: the tool messages at the very end."""
        names: list[str] = []
        by_id = {c.id: c.name for m in self.messages for c in m.tool_calls}
        for message in reversed(self.messages):
            if message.role != "tool":
                break
            names.append(message.name or by_id.get(message.tool_call_id or "", "unknown"))
        return tuple(reversed(names))
