"""The thought's state machine on scripted tokens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dami_agent.runtime.repetition import LoopRule
from dami_agent.runtime.thought import Thought, ThoughtMarkers, cap_and_words, thought_cap
from dami_agent.types import Limits

OPEN, CLOSE, CALL, EOS, A, B = 90, 91, 92, 99, 50, 51  # A, B: what follows a close in a chat
MARKERS = ThoughtMarkers(open_id=OPEN, close_id=CLOSE, tool_call_id=CALL, after_close_ids=(A, B))


def run(script: Sequence[int], *, total: int = 40, **options: object) -> tuple[list[tuple[int, str]], Thought]:
    """Feed what the model would say; the engine's own tokens come between. Ends at an eos of the answer."""
    settings: dict[str, object] = {"in_thought": True, "cap": 1000} | options
    thought = Thought(settings.pop("markers", MARKERS), {EOS}, **settings)  # type: ignore[arg-type]
    model = iter(script)
    written: list[tuple[int, str]] = []
    while len(written) < total:
        forced = thought.forced()
        token = next(model, None) if forced is None else forced
        if token is None or (forced is None and token == EOS and not thought.open):
            break
        written.append(thought.take(token))
    return written, thought


def test_closed_by_the_model() -> None:
    written, thought = run([1, 2, CLOSE, A, 3, EOS])
    assert written == [(1, "reasoning"), (2, "reasoning"), (CLOSE, "control"), (A, "answer"), (3, "answer")]
    assert thought.closed_by == "model"


def test_closed_by_its_cap() -> None:
    written, thought = run([1, 2, 3, 4], cap=2)
    assert written == [
        *[(1, "reasoning"), (2, "reasoning")],
        *[(CLOSE, "control"), (A, "control"), (B, "control")],
        *[(3, "answer"), (4, "answer")],
    ]
    assert thought.closed_by == "cap"


def test_a_cap_of_zero_closes_at_once() -> None:
    written, thought = run([1], cap=0)
    assert written == [(CLOSE, "control"), (A, "control"), (B, "control"), (1, "answer")]
    assert thought.closed_by == "cap"


def test_end_of_sequence_inside_becomes_the_close() -> None:
    written, thought = run([1, EOS, 2, EOS, 7])
    assert written == [(1, "reasoning"), (CLOSE, "control"), (A, "control"), (B, "control"), (2, "answer")]
    assert thought.closed_by == "eos"


def test_a_tool_call_inside_begins_the_answer() -> None:
    written, thought = run([1, CALL, 2, CLOSE, EOS])
    assert written == [(1, "reasoning"), (CALL, "answer"), (2, "answer"), (CLOSE, "answer")]
    assert thought.closed_by == "tool_call"


def test_the_model_may_open_a_thought_with_its_first_token_only() -> None:
    written, thought = run([OPEN, 1, CLOSE, 2], in_thought=False)
    assert [part for _, part in written] == ["control", "reasoning", "control", "answer"]
    assert thought.closed_by == "model"
    written, thought = run([1, OPEN, 2, CLOSE], in_thought=False)
    assert {part for _, part in written} == {"answer"}
    assert thought.closed_by is None


def test_a_thought_cut_off_is_not_closed() -> None:
    written, thought = run([1, 2, 3], total=2)
    assert [part for _, part in written] == ["reasoning", "reasoning"]
    assert thought.open
    assert thought.closed_by is None


def test_without_markers_there_is_no_thought() -> None:
    written, thought = run([OPEN, CLOSE, CALL, 1], in_thought=False, markers=ThoughtMarkers())
    assert {part for _, part in written} == {"answer"}
    assert thought.closed_by is None


def test_a_repetition_that_ran_away_is_closed() -> None:
    written, thought = run([1, *[2, 3] * 200], total=500, rule=LoopRule())
    assert thought.closed_by == "repetition"
    reasoning = [token for token, part in written if part == "reasoning"]
    assert 96 <= len(reasoning) <= 1 + 96 + 16
    assert written[len(reasoning) :][:3] == [(CLOSE, "control"), (A, "control"), (B, "control")]


@pytest.mark.parametrize(
    ("limits", "total", "cap"),
    [
        (Limits(), 100, 100),
        (Limits(max_reasoning_tokens=7), 100, 7),
        (Limits(max_reasoning_tokens=0), 100, 0),
        (Limits(answer_reserve=30), 100, 67),  # the three closing tokens are the thought's, not the answer's
        (Limits(answer_reserve=30, max_reasoning_tokens=90), 100, 67),
        (Limits(answer_reserve=200), 100, 0),
    ],
)
def test_cap_in_force(limits: Limits, total: int, cap: int) -> None:
    assert thought_cap(limits, total, 3) == cap


tokens = st.lists(st.sampled_from([1, 2, OPEN, CLOSE, CALL, EOS, A]), max_size=40)


@given(tokens, st.booleans(), st.integers(0, 12))
def test_whatever_comes_is_accounted_for(script: list[int], in_thought: bool, cap: int) -> None:
    written, thought = run(script, total=60, in_thought=in_thought, cap=cap)
    parts = [part for _, part in written]
    assert parts.count("reasoning") <= cap
    first_answer = parts.index("answer") if "answer" in parts else len(parts)
    assert set(parts[first_answer:]) <= {"answer"}  # once it answers, it never thinks again
    assert all(token not in (EOS, CLOSE, CALL) for token, part in written if part == "reasoning")
    assert (thought.closed_by is not None) == (
        not thought.open and (in_thought or (bool(written) and written[0] == (OPEN, "control")))
    )


@given(tokens, st.booleans(), st.integers(0, 12), st.integers(0, 30))
def test_replayed_and_continued_is_the_same(script: list[int], in_thought: bool, cap: int, cut: int) -> None:
    written, thought = run(script, total=60, in_thought=in_thought, cap=cap)
    again = Thought(MARKERS, {EOS}, in_thought=in_thought, cap=cap)
    replayed = list(again.replay([token for token, _ in written[:cut]]))
    # A close for an end of sequence cannot be told from the model's own: what followed it counts as answer then.
    if thought.closed_by != "eos" or cut <= [t for t, _ in written].index(CLOSE):
        assert replayed == written[:cut]
        rest = [again.take(token if (forced := again.forced()) is None else forced) for token, _ in written[cut:]]
        if thought.closed_by != "eos":
            assert rest == written[cut:]


WORDS = ThoughtMarkers(
    open_id=OPEN,
    close_id=CLOSE,
    tool_call_id=CALL,
    after_close_ids=(A, B),
    before_close_ids=(71, 72),
    plain_close_ids=(70,),
)


def test_closing_words_are_written_before_the_marker_and_are_not_the_models() -> None:
    written, thought = run([1, 2, 3, 4], cap=2, markers=WORDS)
    closing = [(token, "control") for token in (71, 72, CLOSE, A, B)]
    assert written == [(1, "reasoning"), (2, "reasoning"), *closing, (3, "answer"), (4, "answer")]
    assert thought.closed_by == "cap"
    written, _ = run([1, 2, 3, 4], cap=0, words=False, markers=WORDS)
    assert written[:4] == [(token, "control") for token in (70, CLOSE, A, B)]


@pytest.mark.parametrize(
    ("limits", "total", "cap", "words"),
    [
        (Limits(max_reasoning_tokens=0), 400, 0, False),
        (Limits(max_reasoning_tokens=1), 20, 1, True),
        (Limits(max_reasoning_tokens=1), 19, 1, False),  # five of 19 tokens are more than a quarter
        (Limits(max_reasoning_tokens=90), 100, 90, True),
        (Limits(max_reasoning_tokens=91), 100, 91, False),  # five to close, and no more than four to answer
        (Limits(answer_reserve=10), 20, 5, True),
        (Limits(answer_reserve=10), 19, 5, False),  # the plain close is four tokens
        (Limits(), 100, 100, False),
    ],
)
def test_closing_words_are_left_out_where_they_have_no_place(limits: Limits, total: int, cap: int, words: bool) -> None:
    assert cap_and_words(WORDS, limits, total) == (cap, words)


@pytest.mark.parametrize("cut", range(9))
def test_a_thought_closed_at_its_cap_is_closed_there_when_replayed(cut: int) -> None:
    written, _ = run([1, 2, 3, 4], cap=2, markers=WORDS)
    again = Thought(WORDS, {EOS}, in_thought=True, cap=2)
    assert list(again.replay([token for token, _ in written[:cut]])) == written[:cut]
    rest = [again.take(token if (forced := again.forced()) is None else forced) for token, _ in written[cut:]]
    assert rest == written[cut:]


def test_a_longer_thought_than_the_cap_is_closed_after_its_replay() -> None:
    again = Thought(WORDS, {EOS}, in_thought=True, cap=2)
    assert list(again.replay([1, 2, 71, 3])) == [(token, "reasoning") for token in (1, 2, 71, 3)]
    assert [again.take(token)[1] for token in iter(again.forced, None)] == ["control"] * 5
    assert again.closed_by == "cap"


@given(tokens, st.booleans(), st.integers(0, 12))
def test_a_model_that_may_not_draw_the_markers_thinks_once(script: list[int], in_thought: bool, cap: int) -> None:
    thought = Thought(WORDS, {EOS}, in_thought=in_thought, cap=cap)
    written: list[tuple[int, str]] = []
    for token in script:
        while (forced := thought.forced()) is not None:
            written.append(thought.take(forced))
        if token not in thought.banned and not (token == EOS and not thought.open):
            written.append(thought.take(token))
    answer = [token for token, part in written if part == "answer"]
    assert not {OPEN, CLOSE}.intersection(answer)
    assert sum(token == CLOSE for token, _ in written) <= 1
