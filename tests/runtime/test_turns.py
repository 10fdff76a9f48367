from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dami_agent.runtime.turns import Group, Turns, bucket, may_share
from dami_agent.types import Intensity


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40))
def test_buckets_hold_everything_and_waste_little(lengths: list[int]) -> None:
    batches = bucket(list(enumerate(lengths)), lengths)
    assert sorted(i for batch in batches for i, _ in batch) == list(range(len(lengths)))
    for batch in batches:
        padded, real = len(batch) * max(n for _, n in batch), sum(n for _, n in batch)
        assert padded <= 1.25 * real + 512


def test_like_lengths_stay_together() -> None:
    assert len(bucket(list(range(32)), [100 + i for i in range(32)])) == 1
    assert len(bucket(list(range(3)), [5, 10_000, 6])) == 2


def test_lanes_join_only_where_padding_stays_small() -> None:
    assert may_share([(4, 100), (1, 300)])
    assert not may_share([(16, 200), (1, 30_000)])


def test_every_group_gets_its_turn() -> None:
    turns = Turns()
    groups: list[Group] = [Intensity(x / 4) for x in range(5)]
    served = []
    for _ in range(32 * 5 * 3):
        served.append(turns.pick(groups))
        turns.stepped(0.0)
    assert [served[i] for i in range(0, len(served), 32)] == groups * 3
    assert all(len(set(served[i : i + 32])) == 1 for i in range(0, len(served), 32))


def test_a_group_alone_keeps_the_turn_and_a_gone_one_gives_it_up() -> None:
    turns = Turns()
    a, b = Intensity(0), Intensity(1)
    for _ in range(100):
        assert turns.pick([a]) == a
        turns.stepped(0.0)
    assert turns.pick([a, b]) == b
    assert turns.pick([a]) == a


def test_a_costly_switch_makes_turns_longer() -> None:
    turns = Turns()
    a, b = Intensity(0), Intensity(1)
    first = turns.pick([a, b])
    turns.stepped(3600.0)
    for _ in range(100):
        assert turns.pick([a, b]) == first
        turns.stepped(0.0)
