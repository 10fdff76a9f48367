"""Unseen templates, names, lengths: what is asked, and what it is compared with."""

from __future__ import annotations

import math
import random
import re
import statistics
from collections import Counter

import pytest

from builtin_pair.acceptance import unseen
from dami_agent.evaluation.stats import Z
from dami_agent.tasks import UNSEEN, Question, questions
from tests.evaluation.outcomes import asked, found, outcome


@pytest.mark.parametrize("kind", UNSEEN)
def test_questions_are_held_out_and_shared_by_the_seeds(kind: str) -> None:
    drawn = unseen.unseen_questions(kind, 60, 3)  # type: ignore[arg-type]
    assert Counter(seed for seed, _ in drawn) == {0: 20, 1: 20, 2: 20}
    assert len({question.prompt for _, question in drawn}) == 60
    for _, question in drawn:
        assert question.split == "test"
        assert question.unseen == (kind,)
        for family, level, of in unseen.matching(kind, question):  # type: ignore[arg-type]
            assert (family, of) == (question.family, question.kind)
            assert level in range(1, 6)


def test_what_is_unseen_is_compared_with_questions_of_its_own_kind_that_the_sweep_asks() -> None:
    seen = {(q.family, q.level, q.kind) for q in questions("test", 2100)}
    for kind in UNSEEN:
        drawn = unseen.unseen_questions(kind, 150, 3)
        assert len(drawn) == 150
        for _, question in drawn:
            assert set(unseen.matching(kind, question)) <= seen, question.prompt


def size(question: Question) -> int:
    """How long a question is, read off its text: operations, things on the bill, numbers, passes, people."""
    if question.family in ("chain", "story"):
        return len(question.work)
    if question.family == "prices":
        return len(set(re.findall(r"\d+ (\w+)", question.prompt)) - {"euros"})
    if question.family == "list":
        return len(re.findall(r"\d+", re.sub(r"above \d+", "", question.prompt)))
    if passes := re.search(r"after (\d+) pass", question.prompt):
        return int(passes[1])
    return len(set(re.findall(r"\w+(?= is (?:taller|shorter))|(?<=than )\w+", question.prompt)))


def test_a_held_out_length_lies_between_those_it_is_compared_with() -> None:
    lengths: dict[tuple[str, int, str], set[int]] = {}
    for question in questions("test", 1500, seed=11):
        lengths.setdefault((question.family, question.level, question.kind), set()).add(size(question))
    drawn = unseen.unseen_questions("length", 300, 3)
    assert len(drawn) == 300
    for _, question in drawn:
        around = set().union(*(lengths[key] for key in unseen.matching("length", question)))
        assert min(around) < size(question) < max(around), question.prompt
        family, kind = question.family, question.kind
        assert size(question) not in set().union(*(lengths.get((family, level, kind), set()) for level in range(1, 6)))


def test_the_gap_is_the_weighted_seen_accuracy_less_the_unseen_one() -> None:
    questions = asked(400)
    outcomes = next(iter(found(questions, (0.5,)).values()))
    rng = random.Random(4)
    new = unseen.unseen_questions("length", 70, 2)
    matching = [unseen.matching("length", question) for _, question in new]
    answers = [outcome(rng.random() < 0.6, rng.randint(3, 9)) for _ in new]
    row = unseen.compare_unseen("length", new, answers, unseen.seen_accuracy(questions, outcomes))

    def seen(*key: object) -> list[bool]:
        pairs = zip(questions, outcomes, strict=True)
        return [o.right for (_, q), o in pairs if (q.family, q.level, q.kind) == key]

    per_question = [statistics.fmean(statistics.fmean(seen(*key)) for key in keys) for keys in matching]
    right = [a.right for a in answers]
    assert row["seen"] == pytest.approx(statistics.fmean(per_question), abs=1e-4)
    assert row["gap"] == pytest.approx(statistics.fmean(per_question) - statistics.fmean(right), abs=2e-4)
    weights: dict[tuple[str, int, str], float] = {}
    for keys in matching:
        for key in keys:
            weights[key] = weights.get(key, 0.0) + 1 / len(keys) / len(new)
    spread = statistics.variance(right) / len(right)
    spread += sum(w**2 * statistics.variance(seen(*key)) / len(seen(*key)) for key, w in weights.items())
    assert row["gap_ci"] == pytest.approx(Z * math.sqrt(spread), abs=1e-4)


def test_without_matching_questions_there_is_no_gap() -> None:
    few = asked(5)  # level 1 only
    new = unseen.unseen_questions("template", 30, 1)
    row = unseen.compare_unseen("template", new, [outcome()] * 30, unseen.seen_accuracy(few, [outcome()] * 5))
    assert (row["accuracy"], row["seen"], row["gap"], row["gap_ci"]) == (1.0, None, None, None)
