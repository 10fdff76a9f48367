"""The measurement of plans: every arm answers the same questions, and pays for all of its replies."""

from __future__ import annotations

import pytest

from dami_agent.evaluation import runner
from dami_agent.evaluation.plans import ARMS, Answered, answer_all, table
from dami_agent.tasks import questions


def test_each_arm_is_set_beside_auto_on_the_same_questions() -> None:
    rows = [Answered(right=right, tokens=10, attempts=1) for right in (True, False, True, False)]
    better = [Answered(right=True, tokens=20, attempts=2) for _ in range(4)]
    lines = table({"`auto`": rows, "more": better}).splitlines()
    assert lines[2].startswith("| `auto` | 0.500 ± ")
    assert lines[2].endswith("| 10 ± 0 | 1.00 |  |")
    assert lines[3].startswith("| more | 1.000 ± ")
    assert "| 20 ± 0 | 2.00 | +50.0 ± 56.6 |" in lines[3]


@pytest.mark.slow
def test_arms_pay_for_all_replies_and_are_reproducible() -> None:
    session, asked = runner.open_batch_session(batch=4), questions("calibration", 3, seed=2)
    arms = {arm.name: arm for arm in ARMS}
    plain = answer_all(session, arms["λ=0"], asked, seed=2)
    agreeing = answer_all(session, arms["cascade 0 → 1, agreement"], asked, seed=2)
    assert [row.attempts for row in plain] == [1, 1, 1]
    for one, two in zip(plain, agreeing, strict=True):
        assert two.attempts in (2, 3)
        assert two.tokens > one.tokens
    assert answer_all(session, arms["λ=0"], asked, seed=2) == plain
