"""Regular expressions of strangers: ordinary ones work as in ``re``, hostile ones come to an end."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.patterns import LONGEST, PatternError, compile_pattern

GENEROUS = 2.0
"""Seconds; what is asserted about takes milliseconds, or hours."""

ORDINARY = [
    (r"^[A-Za-z0-9_-]{1,255}$", ["a", "a" * 255, "x_Y-9"], ["", "a" * 256, "ä", "a b"]),
    (r"^\d{1,500}$", ["1", "1" * 500], ["", "1" * 501, "1x"]),
    (r"^\w{1,500}$", ["é" * 500], ["é" * 501]),
    (r"(?i)\bär du säker\b", ["ÄR DU SÄKER?"], ["bär du säker"]),
    (r"^[\w.+-]+@[\w-]+\.[\w.]{2,63}$", ["jo.do+x@mail.example.org"], ["jo@do", "@x.org"]),
    (r"^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$", ["12345678-1234-abcd-1234-1234567890ab"], ["12345678-1234"]),
    (r"^(?=.*\d)(?!.*\s).{8,64}$", ["secret123"], ["secret 123", "secretly", "s1"]),
    (r"(['\"]).*?\1", ['say "x"'], ["say \"x'"]),
    (r"^\p{L}+$", ["Ünï"], ["a1", ""]),
    (r"[[\]]x", ["[x", "]x"], ["ax"]),
    (r"a\Z", ["ba"], ["ab"]),
    (r"\<b\>", ["a <b>"], ["a b"]),
    ("", ["", "x"], []),
]


@pytest.mark.parametrize(("source", "found", "missing"), ORDINARY)
def test_ordinary_patterns_are_found_where_they_are(source: str, found: list[str], missing: list[str]) -> None:
    pattern = compile_pattern(source)
    assert [pattern.search(text) for text in found] == [True] * len(found)
    assert [pattern.search(text) for text in missing] == [False] * len(missing)


def test_an_evil_pattern_is_answered_rightly_and_at_once() -> None:
    pattern = compile_pattern(r"^(\w+\s?)+$")
    started = time.perf_counter()
    assert pattern.search("a" * 33 + "!") is False
    assert pattern.search("a" * 10_000 + "!") is False
    assert pattern.search("a b " * 2_500) is True
    assert time.perf_counter() - started < GENEROUS
    assert pattern.linear


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"^(a+)+$(?<!b)", "a" * 5_000 + "!"),
        (r"(a)\1*(?=b)", "a" * 10_000),
        (r"(?:\w{1,30}\s?){10}\d", "aé " * 3_000),
        (r"(?:x{0,99999}){0,99999}(?=y)", "x" * 10_000),
        (r"(a(?R)?b)z", "a" * 5_000),
    ],
)
def test_what_backtracks_is_undecided_or_decided_but_never_runs_on(source: str, text: str) -> None:
    started = time.perf_counter()
    assert compile_pattern(source).search(text) in (None, False)
    assert time.perf_counter() - started < GENEROUS


@pytest.mark.parametrize(
    "source",
    [
        "(",
        "*",
        "[a",
        "(?P<1>x)",
        r"(?=a)\L<words>",
        "a{1000000000}",
        "(a{1000}){1000}",
        "(?=b)" + "(a{99}){99}" * 2,
        "(" * 5_000 + ")" * 5_000,
        "(" * 5_000 + "(?=a)" + ")" * 5_000,
        "(?:" * 40 + "a" + "){1,9}" * 40 + "(?=b)",
        "(?=a)b|" * 1_000,
        "[" * 5_000,
        "x" * (LONGEST + 1),
        "(?=" + "9" * 400 + "){" + "9" * 400 + "}",
    ],
)
def test_what_is_no_pattern_or_a_bomb_is_refused_at_once(source: str) -> None:
    started = time.perf_counter()
    with pytest.raises(PatternError) as refused:
        compile_pattern(source)
    assert len(str(refused.value)) < 400
    assert time.perf_counter() - started < GENEROUS


def test_half_a_surrogate_pair_stops_nothing() -> None:
    assert compile_pattern("a.c").search("a\ud800c") is True
    assert compile_pattern("(?=a)a.c").search("a\ud800c") is True


_PIECES = st.sampled_from(["a", "b", " ", "é", "1", ".", r"\w", r"\d", r"\s", r"\b", "[ab]", "[^a]", "^", "$", "|"])
_SMALL = st.recursive(
    st.lists(_PIECES, min_size=1, max_size=4).map("".join),
    lambda inner: st.tuples(inner, st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}"])).map(
        lambda part: f"(?:{part[0]}){part[1]}"
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(source=_SMALL, text=st.text("ab é1!", max_size=8))
def test_both_engines_agree_with_re(source: str, text: str) -> None:
    expected = re.search(source, text) is not None
    for pattern in (compile_pattern(source), compile_pattern(f"{source}(?=)")):
        assert pattern.search(text) is expected
    assert not compile_pattern(f"{source}(?=)").linear


@settings(max_examples=300, deadline=None, derandomize=True)
@given(source=st.text("ab\\[](){}?*+.,^$|=!<:-&~019PwdsZ\ud800", max_size=40))
def test_whatever_is_given_is_a_pattern_or_a_pattern_error(source: str) -> None:
    try:
        pattern = compile_pattern(source)
    except PatternError:
        return
    assert pattern.search("ab [a]-1 " * 20) in (True, False, None)


def test_random_large_patterns_end() -> None:
    draw = random.Random(7)
    started = time.perf_counter()
    for _ in range(20):
        parts = [draw.choice([r"\w?", r"[^x]*", "a+", "(?:b|ab)*", r".{0,9}", r"\b"]) for _ in range(60)]
        try:
            found = compile_pattern("".join(parts) + "9$").search("ab " * 1_000)
        except PatternError:
            continue
        assert found in (False, None)
    assert time.perf_counter() - started < 20 * GENEROUS
