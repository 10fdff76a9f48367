from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.runtime.schedule import Group, GroupScheduler, Interleaving, bucket_by_length, can_merge
from dami_agent.types import Intensity


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40))
def test_buckets_hold_everything_and_waste_little(lengths: list[int]) -> None:
    batches = bucket_by_length(list(enumerate(lengths)), lengths)
    assert sorted(i for batch in batches for i, _ in batch) == list(range(len(lengths)))
    for batch in batches:
        padded, real = len(batch) * max(n for _, n in batch), sum(n for _, n in batch)
        assert padded <= 1.25 * real + 512


def test_like_lengths_stay_together() -> None:
    assert len(bucket_by_length(list(range(32)), [100 + i for i in range(32)])) == 1
    assert len(bucket_by_length(list(range(3)), [5, 10_000, 6])) == 2


def test_lanes_join_only_where_padding_stays_small() -> None:
    assert can_merge([(4, 100), (1, 300)])
    assert not can_merge([(16, 200), (1, 30_000)])


def test_every_group_gets_its_turn() -> None:
    turns = GroupScheduler()
    groups: list[Group] = [Intensity(x / 4) for x in range(5)]
    served = []
    for _ in range(32 * 5 * 3):
        served.append(turns.pick(groups))
        turns.stepped(0.0)
    assert [served[i] for i in range(0, len(served), 32)] == groups * 3
    assert all(len(set(served[i : i + 32])) == 1 for i in range(0, len(served), 32))


def test_a_group_alone_keeps_the_turn_and_a_gone_one_gives_it_up() -> None:
    turns = GroupScheduler()
    a, b = Intensity(0), Intensity(1)
    for _ in range(100):
        assert turns.pick([a]) == a
        turns.stepped(0.0)
    assert turns.pick([a, b]) == b
    assert turns.pick([a]) == a


def test_a_costly_switch_makes_turns_longer() -> None:
    turns = GroupScheduler()
    a, b = Intensity(0), Intensity(1)
    first = turns.pick([a, b])
    turns.stepped(3600.0)
    for _ in range(100):
        assert turns.pick([a, b]) == first
        turns.stepped(0.0)


class Crowd:
    """Groups that come, go, get stuck for want of room and come back, as hypothesis likes; turns of four steps."""

    def __init__(self, size: int) -> None:
        self.names: list[Group] = [Intensity(i / size) for i in range(size)]
        self.turns = GroupScheduler()
        self.waited: dict[Group, int] = {}
        self.ahead: dict[Group, int] = {}
        self.last: Group = None

    def round(self, ready: list[Group], stuck: list[Group], seconds: float, switch: float) -> Group:
        there = [*ready, *stuck]
        for gone in set(self.waited) - set(there):
            del self.waited[gone]
        for group in there:  # a newcomer stands behind all who are there
            if group not in self.waited:
                self.ahead[group] = len(self.waited)
                self.waited[group] = 0
        chosen = self.turns.pick(ready, stuck)
        if chosen != self.last:
            if self.last in there:  # after its turn all the others are before it
                self.waited[self.last], self.ahead[self.last] = 0, len(there) - 1
            for group in ready:
                self.waited[group] += group != chosen
        self.waited[chosen] = 0
        self.last = chosen
        self.turns.stepped(switch, seconds)
        return chosen


rounds = st.lists(
    st.tuples(
        st.sets(st.integers(0, 7), min_size=1), st.sets(st.integers(0, 7)), st.floats(0, 0.2), st.floats(0, 0.05)
    ),
    min_size=1,
    max_size=100,
)


@settings(max_examples=100, deadline=None)
@given(rounds)
def test_no_group_waits_for_more_turns_than_there_were_groups_before_it(
    arrivals: list[tuple[set[int], set[int], float, float]],
) -> None:
    """Bounded wait: whoever comes and goes, each group ahead at my arrival is served at most once before me."""
    crowd = Crowd(8)
    for ready, stuck, seconds, switch in arrivals:
        names = [crowd.names[i] for i in sorted(ready)]
        assert crowd.round(names, [crowd.names[i] for i in sorted(stuck - ready)], seconds, switch) in names
        for group in names:
            assert crowd.waited[group] <= crowd.ahead[group]


@given(st.lists(st.sets(st.integers(0, 7)), min_size=40, max_size=40), st.integers(0, 7))
@settings(max_examples=30, deadline=None)
def test_a_group_that_stays_is_served_whoever_comes_and_goes(others: list[set[int]], me: int) -> None:
    """With steps that cost nothing a turn is 32 steps: among eight groups the one that stays waits at most 7 x 32."""
    turns = GroupScheduler()
    mine, waited = Intensity(me / 8), 0
    for there in [there for there in others for _ in range(9)]:
        chosen = turns.pick([Intensity(i / 8) for i in sorted(there | {me})])
        turns.stepped(0.0)
        waited = 0 if chosen == mine else waited + 1
        assert waited <= 7 * 32


def test_who_was_absent_for_one_pick_is_not_served_twice() -> None:
    """Eight groups, two callers each: a group without a request at the moment of a pick used to come first again."""
    turns = GroupScheduler()
    groups: list[Group] = [Intensity(i / 8) for i in range(8)]
    served = dict.fromkeys(groups, 0)
    absent: Group = groups[0]
    for _ in range(32 * 8 * 20):
        there = [group for group in groups if group != absent or group == groups[7]]
        chosen = turns.pick(there)
        turns.stepped(0.0)
        served[chosen] += 1
        absent = chosen if turns.steps == 32 else None  # its answers are out, its callers come back a moment later
    assert max(served.values()) <= 2 * min(served.values())


def test_turns_are_as_long_as_their_switch_and_no_longer() -> None:
    turns = GroupScheduler()
    a, b = Intensity(0), Intensity(1)
    lengths: list[int] = []
    current, length = turns.pick([a, b]), 0
    for _ in range(200):
        turns.stepped(0.05 if length == 0 else 0.0, 0.01)  # 0.05 s of switching, 0.01 s a step
        length += 1
        if turns.pick([a, b]) != current:
            lengths.append(length)
            current, length = turns.pick([a, b]), 0
    assert set(lengths) <= {20, 21}  # four times the switch, more than a tenth of a second


class Prompt:
    def __init__(self, name: str, remaining: int, group: Group = None) -> None:
        self.name, self.remaining, self.group = name, remaining, group


def read_all(interleaving: Interleaving, reads: list[Prompt], chunk: int, switch: float = 0.0) -> list[str]:
    order: list[str] = []
    group: Group = None
    while reads:
        read = interleaving.pick(reads)
        interleaving.has_read(switch if read.group != group else 0.0, 1.0)
        group = read.group
        order.append(read.name)
        read.remaining -= chunk
        if read.remaining <= 0:
            reads.remove(read)
    return order


def test_a_short_prompt_passes_a_long_one_which_still_gets_every_other_chunk() -> None:
    shorts = [Prompt(f"short{i}", 10) for i in range(6)]
    order = read_all(Interleaving(), [Prompt("long", 100), *shorts], 10)
    assert order.index("short0") <= 1
    assert [name == "long" for name in order[:12]].count(True) >= 5
    assert len(order) == 16


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_what_has_waited_longest_gets_every_other_chunk(lengths: list[int]) -> None:
    reads = [Prompt(str(i), n) for i, n in enumerate(lengths)]
    order = read_all(Interleaving(), reads, 5)
    for i, _ in enumerate(lengths):
        before = sum(-(-n // 5) for n in lengths[: i + 1])
        assert order.index(str(i)) <= 2 * before


def test_rows_that_decode_get_a_quarter_of_the_time() -> None:
    interleaving = Interleaving()
    assert interleaving.may_read(decoding=True)
    interleaving.has_read(0.0, 1.0)
    assert interleaving.may_read(decoding=False)
    steps = 0
    while not interleaving.may_read(decoding=True):
        interleaving.has_decoded(0.0, 0.06)
        steps += 1
    assert steps == 5


def test_reads_of_one_intensity_go_on_until_their_switch_is_paid_for() -> None:
    a, b = Intensity(0), Intensity(1)
    order = read_all(Interleaving(), [Prompt("a", 90, a), Prompt("b", 60, b)], 10, switch=0.7)
    changes = sum(x != y for x, y in itertools.pairwise(order))
    assert changes <= 1 + len(order) // 3  # each switch costs 2.8 of these chunks
    assert len(order) == 15


def test_the_oldest_prompt_is_read_whatever_others_come_back_for() -> None:
    """Six intensities with small prompts and dear switches never keep a larger one of a seventh from being read."""
    interleaving = Interleaving()
    old = Prompt("old", 20, Intensity(1))
    reads = [old, *(Prompt(str(i), 5, Intensity(i / 7)) for i in range(6))]
    number = 0
    for number in range(20):  # noqa: B007
        read = interleaving.pick(reads)
        interleaving.has_read(1.0, 3.0)
        reads.remove(read)
        if read is old:
            break
        reads.append(Prompt(read.name, 5, read.group))  # its caller comes back at once
    assert read is old
    assert number <= 4


def test_a_turn_ends_with_the_rows_that_were_there_when_it_began() -> None:
    """Callers who come back at once do not keep the turn from others."""
    turns = GroupScheduler()
    a, b = Intensity(0), Intensity(1)
    assert turns.pick([a, b]) == a
    turns.stepped(0.01, 0.03)
    assert turns.pick([a, b]) == a
    turns.stepped(0.0, 0.005, drained=True)
    assert turns.pick([a, b]) == a  # the switch is not paid for
    turns.stepped(0.0, 0.006, drained=True)
    assert turns.pick([a, b]) == b
