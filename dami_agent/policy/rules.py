"""Declare what a policy can say: settings, conditions and rules, all frozen; :mod:`match` applies them.

The same models are read from YAML, TOML and dicts and written in Python::

    Rule(name="forms", when=When(structured=True), intensity=(0, 0.3), max_reasoning_tokens=64)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from dami_agent.policy.declared import Declared
from dami_agent.policy.fields import (
    AboveZero,
    AnswerIntensity,
    Bounds,
    Count,
    CountRange,
    Effort,
    IntensitySetting,
    Metadata,
    NameList,
    Pattern,
    Positive,
    PriceRates,
    Share,
)
from dami_agent.policy.plans import Cascade, SelfConsistency
from dami_agent.types import Intensity, PrefixMode, Price


class Settings(Declared):
    """Holds what a rule sets. Caps only tighten what the caller gave; λ is asked for, or bounded by ``[low, high]``.

    Attributes:
        intensity: λ in [0, 1]; one per module, such as ``"ffn=0.9,other=0.5"``; ``"auto"`` (the estimator's); or
            bounds ``(low, high)`` that come after whatever was asked, an explicit number included. An end may be an
            effort's name.
        effort: a ``reasoning_effort`` name; a number beats it.
        answer_intensity: λ of the answer after the thought.
        estimator: name of the estimator to ask in place of the model's own.
        max_reasoning_tokens, max_tokens: caps of one step.
        timeout: seconds.
    """

    old_keys: ClassVar[Mapping[str, str]] = {"deadline": "timeout"}

    intensity: IntensitySetting = None
    effort: Effort = None
    answer_intensity: AnswerIntensity = None
    estimator: str | None = None
    max_reasoning_tokens: Count | None = None
    max_tokens: Positive | None = None
    timeout: AboveZero | None = None

    @property
    def number(self) -> Intensity | None:
        """Return λ, where it is one number, or one per module."""
        return self.intensity if isinstance(self.intensity, Intensity) else None

    @property
    def bounds(self) -> Bounds | None:
        """Return (low, high), where λ is a range."""
        return self.intensity if isinstance(self.intensity, tuple) else None


class ToolSettings(Settings):
    """Holds a tool's own rule, and how many tokens of thought one run may spend on it (a hard budget)."""

    run_max_reasoning_tokens: Count | None = None


class When(Declared):
    """Holds conditions that must all be met. Names take one or a list (any of them), ranges n or [low, high].

    Attributes:
        digests: a tool whose result the step reads.
        calls: a tool that the step is forced to call.
        tools: a tool that is bound.
        node: the LangGraph node.
        tags: all of these must be set.
        metadata: each key must have this value.
        step: number of the step in its run, from 1: LangGraph's in a graph (where tools and middleware have steps
            too), elsewhere of the model call.
        attempt: 0 for the first try of a step, 1 for its first retry, …
        prompt_characters, messages: size of the prompt.
        pattern: regular expression searched for in the last user message, of which it sees the first 10,000
            characters; see :mod:`dami_agent.patterns`.
        structured: whether an object is asked for.
        challenge: whether the user challenges an answer ("are you sure?").
    """

    digests: NameList = None
    calls: NameList = None
    tools: NameList = None
    node: NameList = None
    tags: NameList = None
    metadata: Metadata = None
    step: CountRange = None
    attempt: CountRange = None
    prompt_characters: CountRange = None
    messages: CountRange = None
    pattern: Pattern = None
    structured: bool | None = None
    challenge: bool | None = None


class Rule(Settings):
    """Holds settings for the steps that ``when`` describes; the first rule that matches wins."""

    name: Annotated[str, Field(min_length=1)]
    when: When = When()


class RunBudget(Declared):
    """Limits what all steps of one agent run (or thread) use together; :mod:`budgets` keeps it.

    Attributes:
        max_tokens: output tokens: thoughts, answers, and discarded probes.
        max_reasoning_tokens: tokens of the thoughts, as ``max_reasoning_tokens`` of a step caps them.
        max_seconds: seconds in which at least one call was running.
        max_cost: by ``price``, in its currency.
        price: per million tokens (``prompt``, ``cached``, ``output``) or per ``device_second``, as one model's in the
            ledger's table: at equal prices, what a run has spent is what its rows add up to.
        per: ``run`` (the root of LangChain's run tree) or ``thread`` (``thread_id``).
        on_exhausted: ``taper`` (λ's ceiling and the caps sink as the budget drains, then as ``end``), ``end`` (answer
            with tools disabled, λ=0) or ``error`` (``BudgetExhausted``).
        answer_reserve: tokens kept for the final answer, and what every reply and every thought gets at least; at most
            half of ``max_tokens``. None: 64, at most an eighth.
    """

    old_keys: ClassVar[Mapping[str, str]] = {"max_money": "max_cost"}

    max_tokens: Positive | None = None
    max_reasoning_tokens: Count | None = None
    max_seconds: AboveZero | None = None
    max_cost: AboveZero | None = None
    price: PriceRates = Price()
    per: Literal["run", "thread"] = "run"
    on_exhausted: Literal["taper", "end", "error"] = "taper"
    answer_reserve: Positive | None = None

    @property
    def limited(self) -> bool:
        """Tell whether anything is limited at all."""
        ends = (self.max_tokens, self.max_reasoning_tokens, self.max_seconds, self.max_cost)
        return any(end is not None for end in ends)

    @property
    def timed(self) -> bool:
        """Tell whether the budget limits how long a step may run."""
        return self.max_seconds is not None or (self.max_cost is not None and self.price.device_second > 0)


Trigger: TypeAlias = Literal["invalid_tool_call", "schema_failure", "tool_error", "verifier"]


class Escalation(Declared):
    """Says when a step is tried again with more λ: one step up the grid per attempt.

    ``tool_error`` rejects nothing: the step that digests a tool's error starts one step up for each error in a row.

    Attributes:
        max_attempts: attempts at a step, the first one included. None: one, and one more for a reply whose tool call
            cannot be read, since an agent would end there without a word.
        on: what an attempt is rejected for.
    """

    max_attempts: Annotated[int, Field(strict=True, ge=1, le=10)] | None = None
    on: tuple[Trigger, ...] = ("invalid_tool_call", "schema_failure", "tool_error", "verifier")

    @property
    def attempts(self) -> int:
        """Count the attempts that may be rejected for any of the reasons, and the last one."""
        return self.max_attempts or 1

    @property
    def redraws_calls(self) -> bool:
        """Tell whether a call that cannot be read is asked for once more although no attempts are set."""
        return self.max_attempts is None and "invalid_tool_call" in self.on


class PolicyFile(Declared):
    """Holds the whole of a policy file; ``tools`` and ``nodes`` are short forms of rules.

    ``challenge: true`` switches the built-in rule on that answers a challenge ("are you sure?") with more λ. It is
    off as nothing measured says that it helps: on the built-in pair it turned right answers into wrong ones.

    ``prefix`` says how prompts are read: ``exact``, at the λ of their reply; ``shared``, all but the last token at one
    λ for the replies of all, so that a change of λ reads nothing again; ``auto``, shared where the pair's frontier
    says that this was measured to cost nothing.

    ``reread_cost`` is what reading a prompt token again costs, in tokens decoded: above 0, an estimated λ stays at that
    of the run's step before unless another is worth more than reading the history again at it (where prompts are read
    exactly). A number and not what was just measured: the same run gets the same λs.

    ``cascade`` and ``self_consistency`` (one of the two) answer a step more than once: :mod:`plans`.
    """

    name: Annotated[str, Field(min_length=1)] = "policy"
    accuracy_over_cost: Share = 0.5
    challenge: bool = False
    prefix: PrefixMode = "auto"
    reread_cost: Share = 0.0
    default: Settings = Settings()
    tools: Mapping[str, ToolSettings] = {}
    nodes: Mapping[str, Settings] = {}
    rules: tuple[Rule, ...] = ()
    run: RunBudget = RunBudget()
    escalation: Escalation = Escalation()
    cascade: Cascade | None = None
    self_consistency: SelfConsistency | None = None


class PolicyText(PolicyFile):
    """Holds what stands in a file or dict: a policy, and where the frontier lies that λ is chosen by under it.

    Attributes:
        frontier: a file that ``dami calibrate`` or ``dami sweep`` wrote, seen from the policy's own folder; None: the
            pair's, as it is found (:mod:`dami_agent.frontiers`).
    """

    frontier: Annotated[str, Field(min_length=1)] | None = None
