"""The values that the rooms of this package hand each other, and the two protocols between them.

Nothing here knows torch, transformers or LangChain. All values are frozen. Token counts are ints, times are
seconds (float), λ is an :class:`Intensity`. Token ids are those of the pair's common vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from dami_agent.errors import InvalidIntensity

if TYPE_CHECKING:
    from typing_extensions import Self

Role = Literal["system", "user", "assistant", "tool"]
Template = Literal["instruct", "thinking"]
Part = Literal["reasoning", "control", "answer"]
FinishReason = Literal["stop", "length"]
ThoughtClosedBy = Literal["model", "cap", "eos", "tool_call", "repetition"]
WeightsMode = Literal["merged", "mixed"]


class Intensity(float):
    """Reasoning intensity λ: a finite float in [0, 1]; 0 is the Instruct model, 1 the Thinking model.

    Raises:
        InvalidIntensity: for anything else (NaN, infinity, bool, text, out of range).
    """

    __slots__ = ()

    def __new__(cls, value: float | str) -> Self:
        """Validate; -0.0 becomes 0.0."""
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        if number is None or not math.isfinite(number) or not 0.0 <= number <= 1.0:
            raise InvalidIntensity(
                f"reasoning intensity must be a finite number in [0, 1], got {value!r}",
                hint="0 is the Instruct model, 1 the Thinking model; for named levels use reasoning_effort",
            )
        return super().__new__(cls, number + 0.0)  # +0.0 turns -0.0 into 0.0: one cache key per λ

    def __repr__(self) -> str:
        return f"Intensity({float(self):g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call the model made: parsed name and JSON arguments. ``id`` is unique within the conversation."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidToolCall:
    """What stood between ``<tool_call>`` and its end but is no call; ``text`` is all of it, ``error`` says why."""

    id: str
    name: str | None
    text: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the conversation. ``reasoning`` is an earlier turn's thought, kept apart from ``content``."""

    role: Role
    content: str = ""
    name: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    status: Literal["success", "error"] = "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool bound to the step; ``parameters`` is the JSON schema (draft 2020-12) of its arguments object."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Whether and which tool must be called: ``auto`` may, ``any`` must, ``none`` must not, ``tool`` must ``name``."""

    mode: Literal["auto", "any", "none", "tool"] = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFormat:
    """Structured output: a JSON schema, or any JSON object when ``schema`` is None (``json_mode``)."""

    schema: Mapping[str, Any] | None = None
    name: str = "response"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn. None means: the checkpoints' ``generation_config`` (Thinking's for λ > 0).

    Attributes:
        temperature: 0 is greedy.
        top_p, top_k, min_p, repetition_penalty: as transformers' warpers define them.
        seed: of this request's own random stream; None draws a fresh one, which is recorded.
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
    """Bounds on one call.

    Attributes:
        max_tokens: output tokens, thought and answer together; None: what the context window leaves.
        max_reasoning_tokens: cap of the thought; 0 closes it at once; None: no cap of its own.
            The cap in force is ``min(max_reasoning_tokens, max_tokens - answer_reserve)``.
        answer_reserve: tokens of ``max_tokens`` kept for the answer.
        stop: strings that end the answer (they do not act inside the thought); left out of the text.
        deadline: seconds from submission after which the call fails with ``DeadlineExceeded``.
    """

    max_tokens: int | None = None
    max_reasoning_tokens: int | None = None
    answer_reserve: int = 0
    stop: tuple[str, ...] = ()
    deadline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What the caller asked about depth, after precedence (init < configurable < bind < middleware < call).

    ``intensity`` is a number, ``"auto"`` (ask the estimator) or None; ``effort`` a LangChain effort name or None.
    A number beats an effort name. ``origin`` says where the winning value came from, for the reason.
    """

    intensity: Intensity | Literal["auto"] | None = None
    effort: str | None = None
    origin: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Where in a run this step happens; all optional, all kept in the ledger."""

    call_id: str = ""
    run_id: str | None = None
    parent_run_id: str | None = None
    root_run_id: str | None = None
    thread_id: str | None = None
    node: str | None = None
    step: int | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One chat-model call as the pipeline sees it."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    ask: Ask = Ask()
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    trace: Trace = Trace()

    @property
    def digested_tools(self) -> tuple[str, ...]:
        """Names of the tools whose results this step reads: the tool messages at the very end."""
        names: list[str] = []
        by_id = {c.id: c.name for m in self.messages for c in m.tool_calls}
        for message in reversed(self.messages):
            if message.role != "tool":
                break
            names.append(message.name or by_id.get(message.tool_call_id or "", "unknown"))
        return tuple(reversed(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A grammar that the answer (never the thought) must follow from its first token to its end.

    Attributes:
        kind: ``structural_tag`` (XGrammar's JSON structural-tag format), ``json_schema`` or ``ebnf`` (GBNF).
        text: the grammar in that notation.
        tool_calls: whether a ``<tool_call>`` may come; where False it is also masked inside the thought.
        complete: an output cut off by a cap is an error (structured output), not just ``finish_reason="length"``.
    """

    kind: Literal["structural_tag", "json_schema", "ebnf"]
    text: str
    tool_calls: bool = True
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A rendered step: token ids in, and what may come out.

    Attributes:
        token_ids: prompt tokens, 1-D, no padding.
        template: whose chat template rendered it.
        in_thought: the template opened ``<think>``, so the first output token belongs to the thought.
        constraint: grammar of the answer, or None.
        reply_ids: tokens of the reply that were decoded before at the same λ (a probe) and are to be continued;
            they count as output.
    """

    token_ids: tuple[int, ...]
    template: Template
    in_thought: bool = False
    constraint: Constraint | None = None
    reply_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """Log-probability (natural log, after the logits warpers' input, i.e. of the raw softmax) of one output token."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """One output token as it is decoded. ``control`` are the tokens that close the thought; they are not text."""

    token_id: int
    part: Part
    logprob: TokenLogprob | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds: in the queue, switching weights, prefill, first token since submission, decode, all of it."""

    queue: float = 0.0
    switch: float = 0.0
    prefill: float = 0.0
    first_token: float = 0.0
    decode: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What the engine produced for one prompt.

    Attributes:
        events: all output tokens in order, without the final end-of-sequence token.
        finish_reason: ``stop`` (end of sequence or stop string) or ``length`` (a cap).
        thought_closed_by: None if there was no thought or it was still open at the end.
        stop_string: the stop string that ended the answer, if one did.
        intensity: λ the tokens were decoded with.
        sampling: with every default filled in, seed included.
        weights_version: of the merged copy; bumps on every rebuild. 0 for mixed.
    """

    events: tuple[TokenEvent, ...]
    finish_reason: FinishReason
    intensity: Intensity
    sampling: Sampling
    thought_closed_by: ThoughtClosedBy | None = None
    stop_string: str | None = None
    prompt_tokens: int = 0
    weights_mode: WeightsMode = "merged"
    weights_version: int = 0
    timing: Timing = Timing()

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Ids of all output tokens."""
        return tuple(e.token_id for e in self.events)

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the thought, its closing tokens included."""
        return sum(e.part != "answer" for e in self.events)

    @property
    def answer_tokens(self) -> int:
        """Tokens after the thought."""
        return sum(e.part == "answer" for e in self.events)

    @property
    def output_tokens(self) -> int:
        """All output tokens."""
        return len(self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An estimator's λ(q), before the policy, with the numbers behind it.

    ``probe`` is a generation at λ=0 the estimator made; it becomes the answer when λ stays 0. ``tokens`` are the
    output tokens spent to estimate, ``scored_tokens`` those only read (teacher forcing).
    """

    estimator: str
    intensity: Intensity
    features: Mapping[str, float] = field(default_factory=dict)
    probe: Generation | None = None
    probe_prompt: Prompt | None = None
    tokens: int = 0
    scored_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the policy made of a step: λ, template, limits and why."""

    intensity: Intensity
    template: Template
    reason: str
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    estimate: Estimate | None = None
    requested: float | None = None
    attempt: int = 0
    policy: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A parsed generation. ``content`` is the answer's text without tool calls; nothing generated is lost."""

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    invalid_tool_calls: tuple[InvalidToolCall, ...] = ()
    finish_reason: Literal["stop", "length", "tool_calls"] = "stop"
    accepted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One attempt at one call, finished or failed, as the ledger keeps it."""

    step: Step
    decision: Decision | None
    generation: Generation | None
    reply: Reply | None
    model: str
    started_at: float
    seconds: float
    prompt: Prompt | None = None
    error: str | None = None

    @property
    def probe_tokens(self) -> int:
        """Output tokens of a probe that did *not* become the answer; they are part of the call's cost."""
        estimate = self.decision.estimate if self.decision else None
        if estimate is None or estimate.probe is None:
            return estimate.tokens if estimate else 0
        reused = self.prompt is not None and bool(self.prompt.reply_ids)
        whole = self.generation is not None and self.generation is estimate.probe
        return 0 if reused or whole else estimate.tokens

    @property
    def output_tokens(self) -> int:
        """All output tokens the call cost: thought, answer, and a probe thrown away."""
        return self.probe_tokens + (self.generation.output_tokens if self.generation else 0)


@runtime_checkable
class Job(Protocol):
    """A submitted request: iterate for tokens as they come, or wait for ``result``; both work, from any thread."""

    def __iter__(self) -> Iterator[TokenEvent]:
        """Yield every output token in order, from the first, as it is decoded; raises what ``result`` would."""
        ...

    def result(self, timeout: float | None = None) -> Generation:
        """Wait for the end.

        Raises:
            Cancelled, DeadlineExceeded, EngineClosed: with ``.generation`` holding what had been decoded by then.
        """
        ...

    def cancel(self) -> None:
        """Stop at the next token; idempotent, never blocks."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine runs on: for records, cache keys and people."""

    model: str
    fingerprint: str
    context_length: int
    vocab_size: int
    weights_mode: WeightsMode
    device: str
    dtype: str
    reasons: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Engine(Protocol):
    """Token ids in, token ids out, at any λ; knows no message. Safe to use from many threads."""

    @property
    def info(self) -> EngineInfo:
        """What it runs on."""
        ...

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        """Queue a request.

        Raises:
            ContextOverflow, InvalidSchema, InvalidRequest: bad input, refused before anything is queued.
            EngineBusy, EngineClosed: this engine cannot take it now, or any more.
        """
        ...

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        """``submit(...).result()``."""
        ...

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        """Natural-log probability of each completion token given all before it, by teacher forcing at λ."""
        ...

    def close(self) -> None:
        """Fail what is queued or running with ``EngineClosed`` and free the memory; idempotent."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """λ(q) for a prompt; may probe the engine."""

    @property
    def name(self) -> str:
        """As it stands in the ledger."""
        ...

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """λ for ``prompt`` (rendered with Instruct's template); ``decision`` carries sampling and limits at λ=0."""
        ...
