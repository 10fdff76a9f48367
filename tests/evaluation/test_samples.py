"""Samples of questions and of agents' steps line up with what was asked, and are the same in every process."""

from __future__ import annotations

import pytest
import torch

from dami_agent.errors import InvalidRequest, UsageError
from dami_agent.estimators import ConfidenceEstimator
from dami_agent.estimators.head import probe_vector
from dami_agent.evaluation import runner
from dami_agent.evaluation.asked import SamplePlan, SampleSet
from dami_agent.evaluation.call_batches import BatchRunner, PairSource
from dami_agent.evaluation.own_questions import OwnQuestion
from dami_agent.evaluation.samples import collect
from dami_agent.evaluation.task_set import TaskSet
from dami_agent.evaluation.train_estimator import builtin_sets, own_sets
from dami_agent.tasks import questions
from dami_agent.types import Decision, Intensity, Message, Step

PLAN = SamplePlan(lambdas=(0, 1), max_tokens=40, tries=2)


@pytest.fixture(scope="module")
def asked() -> SampleSet:
    return SampleSet(
        questions=[(1, question) for question in questions("calibration", 10, seed=3)],
        tasks=TaskSet(count=3, seeds=(3,), split="calibration"),
    )


def decided(step: Step) -> Decision:
    return runner.decide(runner.POLICY, runner.Request(step=step, intensity=Intensity(0)))


def test_every_prompt_has_its_states_and_its_replies(asked: SampleSet) -> None:
    with BatchRunner(PairSource()) as runner:
        found = collect(runner, PLAN, asked)
        session = runner.session
    steps = [ask.step for ask in asked.asks(PLAN)]
    assert len(found) == len(asked) == len(steps) == 10 + sum(task.steps for task in asked.drawn)
    for place in (0, 7, 10, len(steps) - 1):
        prompt = session.dialogue.render(steps[place], "instruct")
        alone = session.engine.hidden_states(prompt, found.read_at, found.layers)  # type: ignore[attr-defined]
        torch.testing.assert_close(found.states[place], torch.tensor(alone), rtol=1e-3, atol=1e-3)
        probed = ConfidenceEstimator(calibrated=False).estimate(prompt, decided(steps[place]), session.engine)
        assert found.tools[place] == (place >= 10)
        assert found.probe_tokens[place] == probed.tokens
        torch.testing.assert_close(found.probes[place], probe_vector(probed.features), rtol=1e-2, atol=1e-2)
    assert found.groups[:10].unique().numel() == 10
    groups = found.groups[10:].tolist()
    assert [groups.count(name) for name in dict.fromkeys(groups)] == [task.steps for task in asked.drawn]
    assert found.states.shape[1] == session.engine.info.layers
    assert found.read_at == session.frontier.prefix_intensity == 1, "as the prompts of replies are read"
    assert set(found.right.flatten().tolist()) <= {0.0, 0.5, 1.0}
    assert found.right[:10, 0].mean() > 0.3  # Instruct answers in 40 tokens; questions first
    assert found.right[10:, 0].mean() > 0.1  # and calls
    assert found.tokens.min() >= 1
    assert found.tokens.max() <= 40


def test_two_processes_sample_what_one_does(asked: SampleSet) -> None:
    with BatchRunner(PairSource()) as runner:
        one = collect(runner, PLAN, asked)
    with BatchRunner(PairSource(), workers=2) as runner:
        two = collect(runner, PLAN, asked)
    assert torch.equal(one.right, two.right)
    assert torch.equal(one.tokens, two.tokens)


def test_what_is_learned_from_is_never_what_is_judged_by() -> None:
    learned, tested = builtin_sets(30, 20, 5, 4)
    assert (len(learned.questions), len(tested.questions), len(learned.drawn), len(tested.drawn)) == (30, 20, 5, 4)
    assert {q.split for _, q in learned.questions} == {"calibration"}  # type: ignore[union-attr]
    assert {q.split for _, q in tested.questions} == {"test"}  # type: ignore[union-attr]
    assert {t.split for t in learned.drawn} == {"calibration"}
    assert {t.split for t in tested.drawn} == {"test"}
    mine = questions("train", 150)
    for given, parts in ((5, [145, 5]), (None, [120, 30]), (0, [150, 0])):
        learned, tested = own_sets(mine, given)  # type: ignore[arg-type]
        prompts = [[question.prompt for _, question in each.questions] for each in (learned, tested)]
        assert list(map(len, prompts)) == parts
        assert set(prompts[0]) | set(prompts[1]) == {question.prompt for question in mine}
    assert [len(each.questions) for each in own_sets(mine[:110])] == [100, 10]  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"95 prompts of 150, 55 of which are kept to judge by"):
        own_sets(mine, 55)  # type: ignore[arg-type]
    learned, tested = own_sets([*mine, *mine], 100)  # type: ignore[arg-type]
    assert not {q.prompt for _, q in learned.questions} & {q.prompt for _, q in tested.questions}


def test_the_ends_are_always_sampled_and_nothing_less_than_a_try() -> None:
    assert SamplePlan(lambdas=(0.5,)).lambdas == (0, 0.5, 1)
    with pytest.raises(UsageError, match="tries"):
        SamplePlan(tries=0)


def test_a_prompt_that_does_not_fit_is_named_before_anything_is_decoded() -> None:
    long = OwnQuestion(messages=(Message(role="user", content="word " * 40_000),), answer=1, grader="number")
    with BatchRunner(PairSource()) as batches, pytest.raises(UsageError, match=r"prompt 1 of 1 \('word word"):
        collect(batches, PLAN, SampleSet(questions=[(1, long)]))


def test_other_prompts_and_other_settings_are_other_samples(asked: SampleSet) -> None:
    same = SampleSet(questions=list(asked.questions), tasks=asked.tasks)
    assert asked.digest("pair", PLAN) == same.digest("pair", PLAN)
    others = [
        asked.digest("pair", SamplePlan(tries=3)),
        asked.digest("another", PLAN),
        SampleSet(questions=asked.questions[:9], tasks=asked.tasks).digest("pair", PLAN),
        SampleSet(questions=asked.questions).digest("pair", PLAN),
    ]
    assert len({asked.digest("pair", PLAN), *others}) == 5
