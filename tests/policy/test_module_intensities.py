"""A λ per module through a policy: precedence, bounds, template, escalation; no estimate and no grid gives one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dami_agent.errors import InvalidPolicy
from dami_agent.policy import BudgetTracker, Frontier, ReasoningPolicy
from dami_agent.types import Decision, Estimate, Intensity, IntensityRequest, Usage
from tests.policy.support import FRONTIER, step

TEXT = "ffn=.9,attention=.5,other=.25"
VALUE = Intensity(TEXT)
CANONICAL = "attention=0.5,ffn=0.9,other=0.25"


def never(_: Decision) -> Estimate:
    raise AssertionError("a λ that was asked for is not estimated")


def decide(policy: ReasoningPolicy, asked: Any = None, **more: Any) -> Decision:
    return policy.decide(step(intensity_request=IntensityRequest(intensity=asked, origin="call")), 0, never, **more)


@pytest.mark.parametrize(
    "frontier", [FRONTIER, Frontier(), Frontier(switch_point=0.95)], ids=["measured", "none", "switch"]
)
def test_it_runs_as_given_with_thinkings_template(frontier: Frontier) -> None:
    decision = decide(ReasoningPolicy(frontier=frontier), VALUE)
    assert (decision.intensity, decision.requested, decision.bounded) == (VALUE, VALUE, VALUE)
    assert (decision.snapped, decision.estimate) == (None, None)
    assert decision.template == "thinking"
    assert decision.reason == f"reasoning_intensity={CANONICAL} (call)"
    assert decide(ReasoningPolicy(frontier=frontier), Intensity("ffn=0,other=0")).template == "instruct"


def test_the_caller_beats_a_rule_and_a_rule_the_default() -> None:
    rule = {"name": "deep", "when": {"structured": False}, "intensity": TEXT}
    policy = ReasoningPolicy(frontier=FRONTIER, default={"intensity": "ffn=1,other=0"}, rules=[rule])
    assert decide(policy).intensity == VALUE
    assert "rule deep" in decide(policy).reason
    assert decide(policy, Intensity(0.9)).intensity == Intensity(0.9)
    assert decide(policy, Intensity("norm=1,other=0")).intensity.modules == "norm=1,other=0"
    assert decide(policy, "auto").intensity == VALUE, "auto leaves the choice to the rule"
    by_default = ReasoningPolicy(frontier=FRONTIER, default={"intensity": "ffn=1,other=0"})
    assert decide(by_default).intensity.modules == "ffn=1,other=0"


def test_bounds_and_ceilings_hold_for_every_module() -> None:
    policy = ReasoningPolicy(frontier=FRONTIER, rules=[{"name": "low", "intensity": [0.3, 0.6]}])
    decision = decide(policy, VALUE)
    assert decision.intensity.modules == "attention=0.5,ffn=0.6,other=0.3"
    assert (decision.requested, decision.bounded) == (VALUE, decision.intensity)
    assert decision.reason.endswith("rule low: attention=0.5,ffn=0.6,other=0.3")
    narrow = ReasoningPolicy(frontier=FRONTIER, rules=[{"name": "one", "intensity": [0.6, 0.6]}])
    assert type(decide(narrow, VALUE).intensity) is Intensity
    spent = ReasoningPolicy(frontier=FRONTIER, run={"max_tokens": 1000, "on_exhausted": "taper"})
    budgets = BudgetTracker()
    asked = step(intensity_request=IntensityRequest(intensity=VALUE), root_run_id="run")
    first = spent.decide(asked, 0, never, budgets=budgets)
    budgets.settle(spent, asked, 0, Usage(tokens=900, reasoning_tokens=900))
    second = spent.decide(asked, 0, never, budgets=budgets)
    assert first.intensity == VALUE
    assert second.bounds is not None
    assert second.bounds[1] < 0.9
    assert float(second.intensity) <= second.bounds[1], "a module is above the budget's ceiling"


def test_the_answer_may_have_one_of_its_own() -> None:
    policy = ReasoningPolicy(frontier=FRONTIER, default={"intensity": 0.9, "answer_intensity": TEXT})
    assert decide(policy).answer_intensity == VALUE  # equal as a number, and still another λ
    same = ReasoningPolicy(frontier=FRONTIER, default={"intensity": TEXT, "answer_intensity": TEXT})
    assert decide(same).answer_intensity is None


def test_the_next_attempt_is_deeper_in_every_module_and_plain() -> None:
    policy = ReasoningPolicy(frontier=FRONTIER, escalation={"max_attempts": 3})
    asked = step(intensity_request=IntensityRequest(intensity=Intensity("ffn=.6,other=0")))
    first = policy.decide(asked, 0, never)
    assert policy.may_retry(first)
    second = policy.decide(asked, 1, never, first, "wrong")
    assert (type(second.intensity), second.intensity) == (Intensity, 0.8)
    assert "after λ=ffn=0.6,other=0" in second.reason
    greedy = ReasoningPolicy(frontier=FRONTIER)  # one more draw of a call that cannot be read, at the same λ
    again = greedy.decide(asked, 1, never, first, "no call")
    assert again.intensity == first.intensity


@pytest.mark.parametrize("frontier", [FRONTIER, Frontier()], ids=["measured", "none"])
def test_no_estimate_becomes_one(frontier: Frontier) -> None:
    policy = ReasoningPolicy(frontier=frontier, reread_cost=0.5)
    budgets = BudgetTracker()
    asked = step()

    def estimate(_: Decision) -> Estimate:
        return Estimate(estimator="mine", intensity=Intensity(0.9))

    decision = policy.decide(asked, 0, estimate, budgets=budgets)
    assert type(decision.intensity) is Intensity
    assert all(type(value) is Intensity for value in frontier.grid)
    with pytest.raises(InvalidPolicy):
        Frontier.from_dict({"rows": [{"lambda": TEXT, "accuracy": 1, "tokens": 1}]})


def test_nothing_is_said_of_valleys_that_were_not_measured_so() -> None:
    assert FRONTIER.in_valley(Intensity(0.4))
    valley = Intensity("ffn=.4,other=.3")
    assert not FRONTIER.in_valley(valley)  # pytest makes an error of a warning
    assert "valley" not in decide(ReasoningPolicy(frontier=FRONTIER), valley).reason


YAML = f"""
default:
  intensity: "{TEXT}"
tools:
  search: {{intensity: "ffn[0-3]=.9,other=0", answer_intensity: "ffn=1,other=.5"}}
rules:
  - name: plain
    when: {{tags: quick}}
    intensity: 0.2
    answer_intensity: "ffn=.5,other=.5"
"""


def test_a_file_says_it(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(YAML, encoding="utf-8")
    policy = ReasoningPolicy.from_file(tmp_path / "policy.yaml", frontier=FRONTIER)
    assert decide(policy).intensity == VALUE
    found = {(origin, repr(value)) for origin, value in policy.intensities}
    assert ("policy default", f"Intensity({CANONICAL!r})") in found
    assert any(value == "Intensity('ffn[0-3]=0.9,other=0')" for _, value in found)
    assert ("rule plain", "0.5") in found, "all parts equal are a plain number"
    (tmp_path / "policy.toml").write_text(f'default = {{intensity = "{TEXT}"}}\n', encoding="utf-8")
    assert decide(ReasoningPolicy.from_file(tmp_path / "policy.toml", frontier=FRONTIER)).intensity == VALUE


def test_equal_texts_are_one_policy_and_equal_numbers_are_not() -> None:
    def policy(text: Any) -> ReasoningPolicy:
        return ReasoningPolicy(default={"intensity": text})

    one, same, other = policy(TEXT), policy(f"other=0.250,{TEXT[:-10]}"), policy("attention=.9,other=.25")
    assert (one.fingerprint, repr(one)) == (same.fingerprint, repr(same))
    assert len({each.fingerprint for each in (one, other, policy(0.9))}) == 3
    assert len({repr(each) for each in (one, other, policy(0.9))}) == 3
    assert (
        policy(VALUE).fingerprint
        == one.fingerprint
        == ReasoningPolicy(default=IntensityRequest(intensity=VALUE)).fingerprint
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('{intensity: "ffn=.9"}', "leaves attention, embedding, norm, other without a λ"),
        ('{intensity: "mlp=.9,other=0"}', "there is no kind 'mlp'"),
        ('{intensity: ["ffn=.9,other=0", 1]}', "unknown effort"),
        ('{answer_intensity: "ffn=2,other=0"}', "λ of ffn is '2'"),
    ],
)
def test_a_wrong_text_is_named_with_its_line(tmp_path: Path, settings: str, said: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"challenge: false\ndefault: {settings}\n", encoding="utf-8")
    with pytest.raises(InvalidPolicy) as refused:
        ReasoningPolicy.from_file(path)
    assert said in str(refused.value)
    assert "policy.yaml:2" in str(refused.value)


def test_what_takes_one_number_takes_no_other() -> None:
    with pytest.raises(InvalidPolicy, match="accuracy_over_cost"):
        ReasoningPolicy(accuracy_over_cost=VALUE)
    with pytest.raises(InvalidPolicy):
        ReasoningPolicy(rules=[{"name": "x", "intensity": [0, VALUE]}])
