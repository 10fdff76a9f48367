"""Record what was decided about a call and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dami_agent.types.conversation import Reply
from dami_agent.types.generation import Generation, Prompt
from dami_agent.types.intensity import Intensity, Template, require_one
from dami_agent.types.price import Usage
from dami_agent.types.step import Limits, Sampling, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Holds a λ that an estimator has looked at.

    Attributes:
        intensity: λ.
        reasoning_tokens: how long a thought at this λ is expected to get; 0 where there is none.
        most_reasoning_tokens: what it stays within nine times out of ten; 0: the same.
        value: how likely a reply at it is right, less the price of its tokens; None where that is not known.
    """

    intensity: Intensity
    reasoning_tokens: int
    most_reasoning_tokens: int = 0
    value: float | None = None

    def __post_init__(self) -> None:
        require_one(self.intensity, "estimators look at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Holds an estimator's λ(q), before the policy, with the numbers behind it.

    ``probe`` is a generation at λ=0 the estimator made; it becomes the answer when λ stays 0. ``tokens`` are the
    output tokens spent to estimate, ``scored_tokens`` those only read (teacher forcing). ``note`` says why nothing was
    estimated, where the estimator was passed over. ``candidates`` are all λs that were looked at, the best first, of an
    estimator that predicts how long thoughts get: where there is no room for the best one's, the policy takes the next
    whose thought fits. ``token_price`` is what a decoded token costs in the candidates' values, as a share of a right
    reply.
    """

    estimator: str
    intensity: Intensity
    features: Mapping[str, float] = field(default_factory=dict)
    probe: Generation | None = None
    probe_prompt: Prompt | None = None
    tokens: int = 0
    scored_tokens: int = 0
    seconds: float = 0.0
    note: str = ""
    candidates: tuple[Candidate, ...] = ()
    token_price: float = 0.0

    def __post_init__(self) -> None:
        require_one(self.intensity, "an estimator gives")

    def value(self, intensity: Intensity) -> float | None:
        """Return what a reply at exactly this λ is worth; None if that is not known."""
        return next((each.value for each in self.candidates if each.intensity == intensity), None)

    def candidate(self, intensity: Intensity) -> Candidate | None:
        """Return what is known of a thought at ``intensity``, of the next candidate above; None at 0, or of none."""
        above = [each for each in self.candidates if each.intensity >= intensity > 0]
        return min(above, key=lambda each: each.intensity, default=None)


ANSWER = "answer"
"""What a step is charged to that reads no tool's result and is not forced to call a tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Holds what the policy made of a step: λ, template, limits and why.

    Attributes:
        intensity: λ of the thought, and of the answer unless ``answer_intensity`` is given.
        answer_intensity: λ the answer is decoded with after the thought; None: the same.
        prefix_intensity: λ that the prompt is read at but for its last token; None: that of the reply.
        requested: the λ that was asked for, before any bound; None when it was estimated. As ``intensity`` and
            ``bounded``, it may be one per module.
        bounds: (lowest, highest) λ that rules and budgets left; None: all of [0, 1].
        bounded: the λ asked for or estimated (moved by ``accuracy_over_cost``), kept between the bounds.
        snapped: the measured λ of the grid that ``bounded`` became; None where it was to run as given, or no λ of the
            grid lay between the bounds.
        rule: the rule that won, as its policy names it; "" if none matched.
        considered: what else was looked at, in order, each with why it did not win.
        charged_to: the tool whose reasoning budget pays for this step, or ``answer``.
        estimator: name of the estimator that a rule wants; "" is the model's own.
        tools_disabled: a budget is used up: answer now, call no tool.
        plan: by which the step may get more replies: ``cascade``, ``self_consistency``; "" by none.
        sample: how many replies were drawn at this λ before, by that plan.
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
    prefix_intensity: Intensity | None = None
    bounds: tuple[float, float] | None = None
    bounded: float | None = None
    snapped: float | None = None
    rule: str = ""
    considered: tuple[str, ...] = ()
    charged_to: str = ANSWER
    estimator: str = ""
    tools_disabled: bool = False
    plan: Literal["", "cascade", "self_consistency"] = ""
    sample: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """Holds one attempt at one call, finished or failed, as the ledger keeps it.

    Attributes:
        fingerprint: identifies the pair's weights.
        frontier: identifies the measured table that the policy used.
        discarded_tokens: decoded at the thought's λ after the thought's end and discarded, where the answer has a λ of
            its own.
        attempt: of the call, from 0; the decision's, where one was made.
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
    discarded_tokens: int = 0
    attempt: int = 0

    @property
    def _estimate(self) -> Estimate | None:
        return self.decision.estimate if self.decision else None

    @property
    def _probe_is_answer(self) -> bool:
        return self.generation is not None and self._estimate is not None and self.generation is self._estimate.probe

    @property
    def probe_tokens(self) -> int:
        """Count output tokens of a probe that did *not* become the answer; they are part of the call's cost."""
        estimate = self._estimate
        if estimate is None or estimate.probe is None:
            return estimate.tokens if estimate else 0
        reused = self.prompt is not None and bool(self.prompt.reply_ids)
        return 0 if reused or self._probe_is_answer else estimate.tokens

    @property
    def output_tokens(self) -> int:
        """Count all output tokens the call cost: thought, answer, and what was discarded."""
        return self.probe_tokens + self.discarded_tokens + (self.generation.output_tokens if self.generation else 0)

    @property
    def cached_tokens(self) -> int:
        """Count the tokens of the prompt that the engine did not compute anew."""
        return min(self.generation.cached_tokens, self.generation.prompt_tokens) if self.generation else 0

    @property
    def reread_tokens(self) -> int:
        """Count the tokens of prompts that the engine computed anew because λ had changed, for a probe too."""
        probe = self._estimate.probe if self._estimate is not None and not self._probe_is_answer else None
        return sum(each.reread_tokens for each in (self.generation, probe) if each is not None)

    @property
    def usage(self) -> Usage:
        """Add up what prices and budgets count."""
        estimate, generation = self._estimate, self.generation
        thrown = estimate.probe if estimate is not None and self.probe_tokens else None
        decoded = [g for g in (generation, thrown) if g is not None]
        seconds = estimate.seconds if estimate else 0.0
        if generation is not None and not self._probe_is_answer:  # a probe's time is in the estimate's
            seconds += generation.timing.switch + generation.timing.prefill + generation.timing.decode
        return Usage(
            tokens=self.output_tokens,
            reasoning_tokens=sum(event.part == "reasoning" for g in decoded for event in g.events),
            prompt_tokens=sum(g.prompt_tokens for g in decoded),
            cached_tokens=sum(min(g.cached_tokens, g.prompt_tokens) for g in decoded),
            scored_tokens=estimate.scored_tokens if estimate else 0,
            device_seconds=seconds,
        )
