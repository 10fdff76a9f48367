"""Measure how many tokens a prompt leaves for the reply, and decide what to do where that is very little."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dami_agent.errors import ContextOverflow
from dami_agent.types import Decision, Engine, Estimate, Estimator, Intensity, Prompt, Step, Template, ToolChoice

if TYPE_CHECKING:
    from dami_agent.dialogue import Dialogue

LEAST_TO_THINK = 64
"""Tokens of the window with which a thought and an answer are worth an estimate; with fewer, auto is λ=0."""


@dataclass(slots=True)
class Prompts:
    """The prompts of one step, each template rendered once.

    Attributes:
        context_length: tokens of prompt and reply together.
    """

    dialogue: Dialogue
    step: Step
    context_length: int
    _rendered: dict[Template, Prompt] = field(default_factory=dict)

    def render(self, template: Template) -> Prompt:
        """Return the step's prompt in that template."""
        if template not in self._rendered:
            self._rendered[template] = self.dialogue.render(self.step, template, self.context_length)
        return self._rendered[template]

    def without_tools(self) -> Prompts:
        """Return the prompts of the same step with tools forbidden, where the caller left the choice to the model."""
        if not self.step.tools or self.step.tool_choice.mode != "auto":
            return self
        step = dataclasses.replace(self.step, tool_choice=ToolChoice(mode="none"))
        return dataclasses.replace(self, step=step, _rendered={})

    def room(self, template: Template) -> int:
        """Return the tokens that the window leaves for a reply; 0 or below where the prompt does not fit."""
        return self.context_length - len(self.render(template).token_ids)

    def estimate(self, estimator: Estimator, base: Decision, engine: Engine) -> Estimate:
        """Return the estimator's λ; where the window leaves too little to think, or it asks for more than that, λ=0.

        Raises:
            ContextOverflow: the prompt leaves no room even for an answer.
        """
        room = self.room(base.template)
        passed_over = Estimate(
            estimator=estimator.name,
            intensity=Intensity(0),
            note=f"{room} tokens of the context window are left",
        )
        if 0 < room < LEAST_TO_THINK:
            return passed_over
        try:
            return estimator.estimate(self.render(base.template), base, engine)
        except ContextOverflow:
            if room <= 0:
                raise
            return passed_over

    def clip_to_context(self, decision: Decision, instruct: Template) -> Decision:
        """Return the decision with λ=0 in place of a λ that nobody asked for, where only the prompt of λ=0 fits."""
        least = self.step.limits.max_tokens or 1
        free = decision.requested is None and (decision.bounds is None or decision.bounds[0] == 0)
        if not free or decision.template == instruct or self.room(decision.template) >= least:
            return decision
        if self.room(instruct) < least:
            return decision
        reason = f"{decision.reason}, its prompt does not fit the context window: 0"
        return dataclasses.replace(decision, intensity=Intensity(0), snapped=None, template=instruct, reason=reason)


def within_window(step: Step, decision: Decision, room: int) -> Decision:
    """Return the decision with a cap that nobody asked for lowered to what the window leaves."""
    limits = decision.limits
    if step.limits.max_tokens is not None or limits.max_tokens is None or not 0 < room < limits.max_tokens:
        return decision
    reserve = min(limits.answer_reserve, room // 2)
    limits = dataclasses.replace(limits, max_tokens=room, max_tokens_by="window", answer_reserve=reserve)
    return dataclasses.replace(decision, limits=limits)
