"""The statistics against slow, obvious definitions, on fresh random inputs."""

import itertools
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dami_agent.evaluation import stats


def wilson_by_bisection(k: int, n: int) -> tuple[float, float]:
    """The proportions p at which |k/n - p| is exactly z standard errors of p: Wilson's own definition."""

    def excess(p: float) -> float:
        return abs(k / n - p) - stats.Z * math.sqrt(p * (1 - p) / n)

    def root(inside: float, outside: float) -> float:
        for _ in range(200):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if excess(middle) <= 0 else (inside, middle)
        return inside

    p = k / n
    return (0.0 if k == 0 else root(p, 0.0)), (1.0 if k == n else root(p, 1.0))


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_what_its_definition_says(case: tuple[int, int]) -> None:
    k, n = case
    low, high = wilson_by_bisection(k, n)
    got = stats.wilson(k, n)
    assert got == pytest.approx((low, high), abs=1e-9)
    assert stats.half_width(k, n) == pytest.approx((high - low) / 2, abs=1e-9)


def test_wilson_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(5)
    hits = 0
    for _ in range(2000):
        p = rng.uniform(0.05, 0.95)
        low, high = stats.wilson(sum(rng.random() < p for _ in range(60)), 60)
        hits += low <= p <= high
    assert 0.93 <= hits / 2000 <= 0.97


@given(st.lists(st.integers(-1, 1), min_size=2, max_size=60))
def test_mean_half_width(differences: list[int]) -> None:
    expected = stats.Z * statistics.stdev(differences) / math.sqrt(len(differences))
    assert stats.mean_half_width(differences) == pytest.approx(expected)
    assert stats.variance(differences) == pytest.approx(statistics.variance(differences))


def test_one_value_has_no_interval() -> None:
    assert stats.mean_half_width([3.0]) == math.inf


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_quantiles_are_those_of_the_standard_library(values: list[float]) -> None:
    ordered = sorted(values)
    for place, expected in enumerate(statistics.quantiles(values, n=40, method="inclusive"), start=1):
        assert stats.quantile(ordered, place / 40) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=40))
def test_auc_counts_pairs(cases: list[tuple[int, bool]]) -> None:
    scores, labels = [float(s) for s, _ in cases], [label for _, label in cases]
    pairs = [
        1.0 if good > bad else 0.5 if good == bad else 0.0
        for good in (s for s, label in zip(scores, labels, strict=True) if label)
        for bad in (s for s, label in zip(scores, labels, strict=True) if not label)
    ]
    expected = sum(pairs) / len(pairs) if pairs else None
    got = stats.auc(scores, labels)
    assert got is None if expected is None else got == pytest.approx(expected)


def test_bootstrap_finds_the_quantiles_of_all_resamples() -> None:
    items = [0.0, 1.0, 5.0, 7.0]
    every = sorted(statistics.fmean(drawn) for drawn in itertools.product(items, repeat=4))
    found = stats.bootstrap(items, statistics.fmean, resamples=20_000, seed=3)
    assert found is not None
    assert found == pytest.approx((stats.quantile(every, 0.025), stats.quantile(every, 0.975)), abs=0.26)
    assert found == stats.bootstrap(items, statistics.fmean, resamples=20_000, seed=3)
    assert found != stats.bootstrap(list(range(100)), statistics.fmean, resamples=200, seed=3)


def test_bootstrap_without_a_defined_statistic_is_none() -> None:
    assert stats.bootstrap([1, 2, 3], lambda _: None, resamples=50) is None
    assert stats.bootstrap([], lambda _: 1.0) is None


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 100])
def test_resamples_are_those_of_randrange(count: int) -> None:
    """So intervals that were printed before are printed again."""
    seen: list[list[int]] = []
    stats.bootstrap(range(count), lambda drawn: seen.append(list(drawn)) or 0.0, resamples=50, seed=4)
    rng = random.Random(4)
    assert seen == [[rng.randrange(count) for _ in range(count)] for _ in range(50)]


def test_rank_correlation_is_spearmans() -> None:
    assert stats.ranks([30.0, 10.0, 20.0, 10.0]) == [4.0, 1.5, 3.0, 1.5]
    assert stats.rank_correlation([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert stats.rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert stats.rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)  # scipy.stats.spearmanr
    assert stats.rank_correlation([1, 1, 1], [1, 2, 3]) is None
