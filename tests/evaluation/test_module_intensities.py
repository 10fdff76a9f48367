"""A policy with a λ per module in `dami bench`: every arm runs merged, and no step is counted under an equal number."""

from __future__ import annotations

from dami_agent.evaluation.agents import StepRow, TaskRun
from dami_agent.evaluation.compare import _histogram
from dami_agent.evaluation.policy_arm import policy_mode, with_weights_for
from dami_agent.types import Intensity


def row(intensity: float) -> StepRow:
    return StepRow(
        task=0,
        step=1,
        tool=None,
        digested=(),
        called=(),
        intensity=intensity,
        reason="",
        prompt_tokens=1,
        reasoning_tokens=0,
        answer_tokens=1,
        seconds=0.1,
    )


def test_its_policy_has_every_arm_run_merged() -> None:
    arm = policy_mode({"default": {"intensity": "ffn=.9,other=0"}})
    assert with_weights_for(arm, {"max_tokens": 9}) == {"weights_mode": "merged", "max_tokens": 9}
    assert with_weights_for(policy_mode({"default": {"intensity": 0.9}}), {"max_tokens": 9}) == {"max_tokens": 9}


def test_steps_are_told_apart_and_shown_by_their_text() -> None:
    steps = [row(Intensity(text)) for text in ("ffn=.9,other=0", "norm=.9,other=0", "other=0,ffn=.90")] + [row(0.9)]
    run = TaskRun(task=0, solved=True, steps=steps)
    assert _histogram([run]) == {"0.9": 1, "ffn=0.9,other=0": 2, "norm=0.9,other=0": 1}
    assert steps[0].to_dict()["lambda_modules"] == "ffn=0.9,other=0"
    assert "lambda_modules" not in steps[3].to_dict()
