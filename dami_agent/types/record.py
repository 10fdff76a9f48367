"""What was decided about a call, what came of it, and the record of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dami_agent.types.conversation import InvalidToolCall, ToolCall
from dami_agent.types.generation import Generation, Prompt
from dami_agent.types.intensity import Intensity, Template
from dami_agent.types.step import Limits, Sampling, Step


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
    """What the policy made of a step: λ, template, limits and why.

    Attributes:
        intensity: λ of the thought, and of the answer unless ``answer_intensity`` is given.
        answer_intensity: λ the answer is decoded with after the thought; None: the same.
        requested: the λ that was asked for, before any bound; None when it was estimated.
        bounds: (lowest, highest) λ that rules and budgets left; None: all of [0, 1].
        rule: the rule that won, as its policy names it; "" if none matched.
        considered: what else was looked at, in order, each with why it did not win.
        charged_to: the tool whose reasoning budget pays for this step, or ``answer``.
        estimator: name of the estimator that a rule wants; "" is the model's own.
        tools_disabled: a budget is used up: answer now, call no tool.
    """

    intensity: Intensity
    template: Template
    reason: str
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    estimate: Estimate | None = None
    requested: float | None = None
    attempt: int = 0
    policy: str = "default"
    answer_intensity: Intensity | None = None
    bounds: tuple[float, float] | None = None
    rule: str = ""
    considered: tuple[str, ...] = ()
    charged_to: str = "answer"
    estimator: str = ""
    tools_disabled: bool = False


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
    """One attempt at one call, finished or failed, as the ledger keeps it.

    ``fingerprint`` identifies the pair's weights, ``frontier`` the table the policy used; ``cached_tokens`` of the
    prompt were not computed anew.
    """

    step: Step
    decision: Decision | None
    generation: Generation | None
    reply: Reply | None
    model: str
    started_at: float
    seconds: float
    prompt: Prompt | None = None
    error: str | None = None
    fingerprint: str = ""
    frontier: str = ""
    cached_tokens: int = 0

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
