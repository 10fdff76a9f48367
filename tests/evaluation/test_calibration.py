"""Calibration by rounds: what is asked at which λ, what is left out, when it stops, and that it goes on."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dami_agent.errors import RunError, UsageError
from dami_agent.evaluation.asked import AnswerFile, AskedBatch, SamplePlan, SampleSet
from dami_agent.evaluation.calibration import CalibrationPlan, _Rounds, calibrate
from dami_agent.evaluation.calibration_rows import difference
from dami_agent.evaluation.call_batches import AnswerOutcome, BatchRunner, PairSource
from dami_agent.evaluation.own_questions import OwnQuestion
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.policy import Frontier
from dami_agent.tasks import questions
from dami_agent.types import Intensity, Message

NOWHERE = Path("a file that is not there")
Reply = Callable[[float, int], tuple[bool, int]]
"""λ and number of the prompt -> whether the reply is right, and its tokens."""


class ScriptedRunner:
    """Answers batches by a rule, each reply taking a second of its clock."""

    def __init__(self, reply: Reply, instruct: Reply | None = None) -> None:
        self.reply, self.instruct = reply, instruct or reply
        self.now, self.asked = 0.0, Counter[float]()

    def run(self, batches: Sequence[AskedBatch]) -> list[list[AnswerOutcome]]:
        return [[self.outcome(batch, place) for place in batch.places or ()] for batch in batches]

    def outcome(self, batch: AskedBatch, place: int) -> AnswerOutcome:
        self.now += 1
        if batch.template is None:
            self.asked[float(batch.intensity)] += 1
        low = batch.template == "instruct" or (batch.template is None and batch.intensity <= batch.switch)
        right, tokens = (self.instruct if low else self.reply)(float(batch.intensity), place)
        return AnswerOutcome(right=right, tokens=tokens, template="instruct" if low else "thinking")


def rounds(runner: ScriptedRunner, count: int = 400, **plan: Any) -> _Rounds:
    asked = SampleSet(questions=[(1, question) for question in questions("calibration", count)])
    settings = CalibrationPlan(samples=SamplePlan(lambdas=plan.pop("lambdas", (0, 0.2, 0.4, 0.6, 0.8, 1))), **plan)
    found = _Rounds(runner, settings, asked, asked.asks(settings.samples), NOWHERE, lambda: runner.now)  # type: ignore[arg-type]
    found.run()
    return found


def rising(value: float, place: int) -> tuple[bool, int]:
    """Give a pair whose accuracy and tokens rise evenly with λ, the same prompts being hard at every λ."""
    return place % 100 < 40 + 50 * value, int(20 + 200 * value + place % 7)


def valley(value: float, place: int) -> tuple[bool, int]:
    """Give the same pair with a valley: at λ=.2 and .4 it writes more than at .6 and is right less often."""
    return (place % 100 < 40, 400) if 0.1 < value < 0.5 else rising(value, place)


def test_all_is_asked_at_every_lambda_where_none_is_beaten() -> None:
    runner = ScriptedRunner(rising)
    found = rounds(runner)
    assert found.done == 400
    assert found.left_out == []
    assert sorted(len(each) for each in found.found.values()) == [400] * len(found.found)
    assert sorted(found.order) == list(range(400))


def test_the_valley_is_left_out_after_the_first_round() -> None:
    runner = ScriptedRunner(valley)
    found = rounds(runner)
    assert {row["lambda"] for row in found.left_out} == {0.2, 0.4}
    assert all(row["beaten_by"] != row["lambda"] and row["gain"] >= 0 for row in found.left_out)
    assert runner.asked[0.2] == runner.asked[0.4] == 48
    assert runner.asked[0.5] == runner.asked[0.6] == 400  # where the valley ends is worth a λ of its own


def test_what_noise_could_explain_is_not_left_out() -> None:
    """One prompt of 48 more at no more tokens is noise; neither end ever goes."""
    found = rounds(ScriptedRunner(lambda value, place: (place > 0 or value == 0.6, 100)), count=60)
    assert found.left_out == []
    found = rounds(ScriptedRunner(lambda value, place: (value < 1, int(100 + 100 * value))), count=200)
    assert {0.0, 1.0} <= set(map(float, found.found))


def test_a_jump_is_closed_in_upon_from_both_sides() -> None:
    """Above λ=.5 this pair is right more often, at tokens that rise: the least λ above it is the one to use."""
    runner = ScriptedRunner(lambda value, place: (place % 10 < (9 if value > 0.5 else 4), int(50 + 100 * value)))
    found = rounds(runner, lambdas=(0, 0.3, 0.8, 1), count=1000)
    assert all(len(each) == 1000 for each in found.found.values())
    assert {0, 0.55, 1} <= set(map(float, found.found)) <= {0, 0.3, 0.425, 0.488, 0.55, 0.8, 1}
    gone = {row["lambda"]: row for row in found.left_out}
    assert {0.3, 0.8} <= set(gone)  # as good at fewer tokens: known once a hundredth would not go unseen
    assert all(row["questions"] >= 300 for row in gone.values())
    few = rounds(ScriptedRunner(rising), lambdas=(0, 1), most=2)
    assert set(map(float, few.found)) == {0, 1}


@pytest.mark.parametrize("seconds", [1100, 1500, 2000, 5000])
def test_it_stops_at_the_budget_with_what_it_has(seconds: float) -> None:
    runner = ScriptedRunner(rising)
    found = rounds(runner, seconds=seconds)
    assert runner.now <= seconds
    assert found.done >= 48
    assert (found.done == 400) == (seconds == 5000)
    assert {len(each) for each in found.found.values()} == {found.done}
    if seconds < 5000:  # what is left of the time would not have been enough for another round
        assert runner.now > 0.75 * seconds


def test_the_template_that_is_worse_is_used_up_to_the_switch_point() -> None:
    def worse(value: float, place: int) -> tuple[bool, int]:
        return (place % 2 == 0, 50) if value < 0.5 else (True, 100)

    found = rounds(ScriptedRunner(worse, instruct=lambda value, place: (value < 0.5 and place % 4 > 0, 20)))
    assert found.switch == 0.4
    assert next(iter(found.found[Intensity(0.2)].values())).template == "instruct"
    assert next(iter(found.found[Intensity(0.6)].values())).template == "thinking"


@pytest.mark.parametrize(("count", "switch"), [(1, 0), (3, 0), (4, 1)])
def test_thinkings_template_is_not_given_up_for_a_handful_of_prompts(count: int, switch: float) -> None:
    """Three in n groups may go unseen, as between two λs; of three prompts nothing is known."""
    found = rounds(ScriptedRunner(lambda *_: (False, 60), instruct=lambda *_: (True, 20)), count, lambdas=(0, 1))
    assert found.switch == switch
    assert found.templates[0]["gain"] == -1


def test_a_prompt_that_is_asked_many_times_is_one_when_templates_are_compared() -> None:
    (question,) = questions("calibration", 1)
    asked = SampleSet(questions=[(seed, question) for seed in range(60)])
    plan = CalibrationPlan(samples=SamplePlan(lambdas=(0, 1)))
    runner: Any = ScriptedRunner(lambda *_: (False, 60), instruct=lambda *_: (True, 20))
    found = _Rounds(runner, plan, asked, asked.asks(plan.samples), NOWHERE, lambda: runner.now)
    found.run()
    assert found.switch == 0


PLAN = CalibrationPlan(samples=SamplePlan(lambdas=(0, 1), max_tokens=24), first=8)


@pytest.fixture(scope="module")
def asked() -> SampleSet:
    return SampleSet(
        questions=[(1, question) for question in questions("calibration", 14, seed=3)],
        tasks=TaskSet(count=2, seeds=(3,), split="calibration"),
    )


def test_what_broke_off_goes_on_and_gives_the_same(asked: SampleSet, tmp_path: Path) -> None:
    whole = calibrate(PairSource(), PLAN, asked, kept=tmp_path)
    (file,) = tmp_path.iterdir()
    lines = file.read_text().splitlines()
    assert len(lines) == 2 * len(asked) + 8  # the other template's replies to the first round
    assert len(set(lines)) == len(lines)
    file.write_text("\n".join([*lines[: len(lines) // 2], lines[-1][:40]]))  # killed in the middle of a line
    again = calibrate(PairSource(), PLAN, asked, kept=tmp_path)
    assert again.frontier == whole.frontier
    calls = []
    calibrate(PairSource(), PLAN, asked, kept=tmp_path, tell=lambda *each: calls.append(each))
    assert len(AnswerFile(file).read()) == len(lines)
    assert max(len([call for call in calls if call[0] == name]) for name, *_ in calls) <= 3  # nothing was decoded


def test_a_frontier_says_what_it_is_of(asked: SampleSet) -> None:
    found = calibrate(PairSource(), PLAN, asked)
    session = PairSource().open()
    read = Frontier.from_dict(found.frontier)
    assert read.pair_fingerprint == session.engine.info.fingerprint
    assert read.of_pair(session.engine.info.fingerprint) is read
    assert found.frontier["questions"] == found.frontier["of"] == len(asked)
    assert found.frontier["rows"][-1]["of_thinking"]["tokens"] == 1
    assert found.frontier["rows"][0]["cells"]["kind"]["agent step"]["questions"] == len(asked) - 14
    assert found.heads is None
    assert "fewer than 100 prompts" in found.without


def test_other_answers_or_graders_are_asked_anew() -> None:
    def digest(**fields: Any) -> str:
        message = Message(role="user", content="2+2?")
        question = OwnQuestion(messages=(message,), **{"answer": 4, "grader": "number"} | fields)
        return SampleSet(questions=[(1, question)]).digest("pair", PLAN.samples)

    assert len({digest(), digest(answer=5), digest(answer="4"), digest(grader="exact")}) == 4
    assert digest() == digest()


def test_what_failed_counts_nowhere_and_is_not_kept(asked: SampleSet, tmp_path: Path) -> None:
    class Flaky(ScriptedRunner):
        def outcome(self, batch: AskedBatch, place: int) -> AnswerOutcome:
            found = super().outcome(batch, place)
            broken = place % 50 == 7 and batch.intensity == 0.4
            return dataclasses.replace(found, failed=True, right=False, tokens=0) if broken else found

    found = rounds(Flaky(rising))  # type: ignore[arg-type]
    assert found.failed == {place for place in range(400) if place % 50 == 7}
    assert {len(each) for each in found.found.values()} == {392}


def test_nothing_is_learned_of_a_pair_that_fails_or_is_never_right() -> None:
    class Broken(ScriptedRunner):
        def outcome(self, batch: AskedBatch, place: int) -> AnswerOutcome:
            return dataclasses.replace(super().outcome(batch, place), failed=place % 5 == 0)

    with pytest.raises(RunError, match="of 48 prompts failed"):
        rounds(Broken(rising))
    with pytest.raises(UsageError, match="none of the replies to 48 prompts is right"):
        rounds(ScriptedRunner(lambda value, place: (False, 10)))
    with pytest.raises(UsageError, match="nothing to ask"):
        calibrate(PairSource(), PLAN, SampleSet())
    with pytest.raises(UsageError, match="at least 8"):
        CalibrationPlan(first=3)


def test_questions_that_hang_together_count_once() -> None:
    """Ten prompts, each asked forty times: what is seen in all copies of one is seen once."""
    asked = SampleSet(questions=[(seed, q) for seed in range(40) for q in questions("calibration", 10)])
    settings = CalibrationPlan(samples=SamplePlan(lambdas=(0, 1)))
    asks = asked.asks(settings.samples)
    once = {ask.group: number for number, ask in enumerate(asks[:10])}
    runner = ScriptedRunner(lambda value, place: (once[asks[place].group] < (9 if value else 5), 10))
    found = _Rounds(runner, settings, asked, asks, NOWHERE, lambda: runner.now)  # type: ignore[arg-type]
    found.run()
    gained = difference(found.found[Intensity(1)], found.found[Intensity(0)], asks)
    assert gained.accuracy == pytest.approx(0.4)
    assert gained.accuracy_ci > 0.25


def test_two_processes_find_what_one_does(asked: SampleSet) -> None:
    assert calibrate(PairSource(), PLAN, asked, workers=2).frontier == calibrate(PairSource(), PLAN, asked).frontier


def test_batches_of_other_settings_share_no_answers(asked: SampleSet, tmp_path: Path) -> None:
    def batch(**settings: Any) -> AskedBatch:
        given = {"intensity": Intensity(1), "places": (3,), "kept": tmp_path / "kept.jsonl"} | settings
        return AskedBatch(name="any", asked=asked, plan=PLAN.samples, **given)

    labels = [
        each.label for each in (batch(), batch(intensity=Intensity(0)), batch(template="instruct"), batch(attempt=1))
    ]
    assert len(set(labels)) == len(labels)
    assert batch().label == batch(template="thinking").label == batch(places=(4,)).label
    assert batch(switch=1.0).label == batch(template="instruct").label
    with BatchRunner(PairSource()) as runner:
        one, other = runner.run([batch(), batch(attempt=1)])
        assert runner.run([batch(), batch(attempt=1)]) == [one, other]
