"""The cache's bound: rows that must give up their place write the same tokens in the end."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from dami_agent.runtime.batch_inputs import LoadedModel
from dami_agent.runtime.prefill import Prefill
from dami_agent.runtime.prefix_cache import PrefixCache
from dami_agent.runtime.schedule import Group
from dami_agent.runtime.sequence import SequenceState
from dami_agent.types import Sampling
from dami_agent.weights import Weights, load_weights
from tests.runtime.scripted import ScriptedWeights
from tests.runtime.support import GREEDY, Lab, ask, prompt_of

WARM = Sampling(temperature=1.0, top_p=0.95, top_k=40)


@pytest.mark.parametrize("mode", ["merged", "mixed"])
def test_rows_put_out_and_read_again_are_unchanged(lab: Lab, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(31)
    work = []
    for i in range(10):
        prompt = prompt_of([rng.randrange(300) for _ in range(rng.randint(2, 40))], in_thought=i % 2 == 0)
        sampling = GREEDY if i % 3 else replace(WARM, seed=i)
        work.append((prompt, ask(rng.choice((0.0, 0.5)), sampling=sampling, max_tokens=40, max_reasoning_tokens=20)))
    with lab.engine(mode) as engine:
        alone = [engine.generate(*request) for request in work]
    prefills: list[int] = []
    real = Prefill.__init__

    def counted(
        self: Prefill, model: LoadedModel, group: Group, rows: Sequence[SequenceState], prefixes: PrefixCache
    ) -> None:
        prefills.extend(map(id, rows))
        real(self, model, group, rows, prefixes)

    monkeypatch.setattr(Prefill, "__init__", counted)
    with lab.engine(mode, max_batch_tokens=150) as engine:
        together = [job.result(120) for job in [engine.submit(*request) for request in work]]
    assert len(prefills) > len(work)  # some were read more than once
    for (prompt, _), a, b in zip(work, alone, together, strict=True):
        assert [e.part for e in a.events] == [e.part for e in b.events]
        assert a.token_ids == b.token_ids or a.sampling.temperature == 0.0
        assert (a.finish_reason, a.thought_closed_by) == (b.finish_reason, b.thought_closed_by)
        if a.token_ids != b.token_ids:
            lab.assert_near_tie(float(a.intensity), prompt.token_ids, a.token_ids, b.token_ids)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", ["merged", "mixed"])
@pytest.mark.parametrize(
    ("lengths", "bound"),
    [((70, 88, 23, 24, 47), 420), ((5, 200), 210), ((30,) * 12, 200), ((150, 3, 3, 3), 310), ((90, 80, 70, 60), 250)],
)
def test_prompts_that_fit_until_they_are_padded_are_all_answered(
    lab: Lab, mode: str, lengths: tuple[int, ...], bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admitted together and read bit by bit, they take more than the bound: some must wait, none of them for ever."""
    monkeypatch.setattr("dami_agent.runtime.batch_inputs._chunk_tokens", lambda _: 16)
    rng = random.Random(sum(lengths))
    texts = [[rng.randrange(300) for _ in range(n)] for n in lengths]
    ready = threading.Event()

    def late() -> Weights:
        ready.wait(60)
        return load_weights(lab.instruct, lab.thinking, mode=mode)  # type: ignore[arg-type]

    with lab.engine(mode, weights=late, max_batch_tokens=bound, eos_token_ids=[319], loop_rule=None) as engine:
        jobs = [engine.submit(prompt_of(text), ask(0.3, max_tokens=6)) for text in texts]
        ready.set()
        for text, job in zip(texts, jobs, strict=True):
            output = job.result(30)
            assert output.output_tokens == 6
            lab.assert_greedy(0.3, text, output.token_ids)


def test_one_request_may_take_more_than_the_bound(lab: Lab) -> None:
    with lab.engine(weights=ScriptedWeights(lambda _: 7), max_batch_tokens=10) as engine:
        jobs = [engine.submit(prompt_of([5] * 30), ask(max_tokens=10)) for _ in range(3)]
        assert [job.result(60).output_tokens for job in jobs] == [10, 10, 10]


def test_one_row_at_a_time(lab: Lab) -> None:
    with lab.engine("merged", max_batch_size=1) as engine:
        jobs = [engine.submit(prompt_of([5] * 9), ask(at, max_tokens=5)) for at in (0.0, 1.0, 0.0, 0.5)]
        for job, at in zip(jobs, (0.0, 1.0, 0.0, 0.5), strict=True):
            lab.assert_greedy(at, [5] * 9, job.result(60).token_ids)
