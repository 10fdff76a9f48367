"""Oracle, pass@k, best of n, retry: question by question, the slow way."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from dami_agent.evaluation import controls
from dami_agent.evaluation.call_batches import AnswerOutcome
from dami_agent.types import Intensity
from tests.evaluation.outcomes import asked, outcome

GRID = [Intensity(value) for value in (0, 0.5, 1)]


def tries(count: int, seed: int) -> list[list[AnswerOutcome]]:
    rng = random.Random(seed)
    return [
        [outcome(rng.random() < 0.4, rng.randint(5, 90), logprob=-rng.random()) for _ in range(count)] for _ in range(5)
    ]


def test_the_oracle_and_pass_at_k_share_their_last_try() -> None:
    made = controls.batches(asked(6), GRID, temperature=0.7, max_tokens=9, switch=0.0)
    assert [(float(b.intensity), b.stream[-1], b.logprobs) for b in made] == [
        (0.0, 0, False),
        (0.5, 1, False),
        (1.0, 0, True),
        (1.0, 1, True),
        (1.0, 2, True),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_every_figure_question_by_question(seed: int) -> None:
    found = tries(40, seed)
    told = controls.compare(GRID, found)
    oracle, samples = [found[0], found[1], found[4]], [found[2], found[3], found[4]]
    for name, columns in (("oracle", oracle), ("pass_at_k", samples)):
        right = tokens = everything = 0
        for i in range(40):
            column = [attempt[i] for attempt in columns]
            good = [o for o in column if o.right]
            right += bool(good)
            tokens += good[0].tokens if good else column[-1].tokens
            everything += sum(o.tokens for o in column)
        assert told[name]["accuracy"] == pytest.approx(right / 40, abs=1e-4)
        assert told[name]["tokens"] == pytest.approx(tokens / 40, abs=1e-2)
        assert told[name]["all_tokens"] == pytest.approx(everything / 40, abs=1e-2)
    assert told["difference"] == pytest.approx(told["oracle"]["accuracy"] - told["pass_at_k"]["accuracy"], abs=2e-4)
    for row in told["best_of"]:
        kept = [max((s[i] for s in samples[: row["n"]]), key=lambda o: o.logprob or 0) for i in range(40)]
        assert row["accuracy"] == pytest.approx(sum(o.right for o in kept) / 40, abs=1e-4)
        spent = sum(s[i].tokens for s in samples[: row["n"]] for i in range(40))
        assert row["tokens"] == pytest.approx(spent / 40, abs=1e-2)


def test_only_the_least_probable_tenth_is_tried_again() -> None:
    found = tries(40, 7)
    once, again = found[2], found[3]
    line = sorted(o.logprob or 0 for o in once)[4]
    right = tokens = 0
    for a, b in zip(once, again, strict=True):
        doubtful = (a.logprob or 0) < line
        right += (b if doubtful and (b.logprob or 0) > (a.logprob or 0) else a).right
        tokens += a.tokens + b.tokens * doubtful
    told = controls.compare(GRID, found)["retry"]
    assert told["accuracy"] == pytest.approx(right / 40, abs=1e-4)
    assert told["tokens"] == pytest.approx(tokens / 40, abs=1e-2)


def test_the_part_is_balanced_over_seeds_and_kinds() -> None:
    some = controls.part(asked(600), 150)
    assert len(some) == 150
    assert Counter(seed for seed, _ in some) == {0: 50, 1: 50, 2: 50}
    assert set(Counter((q.family, q.level) for _, q in some).values()) == {6}
