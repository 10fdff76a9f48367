"""A λ per module as a value: its canonical form against a naive reading, and how it keeps apart from plain numbers."""

from __future__ import annotations

import copy
import json
import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dami_agent.errors import InvalidIntensity
from dami_agent.estimators import FixedEstimator
from dami_agent.types import Candidate, Estimate, Intensity, ModuleIntensity, modules_of

KINDS = ("attention", "embedding", "ffn", "norm", "other")
LAYERS = range(9)  # parts below name layers up to 6, so 8 is beyond all of them
PLACES = [(kind, layer) for kind in ("attention", "ffn", "norm", "other") for layer in LAYERS]
PLACES += [("norm", None), ("embedding", None), ("other", None)]

Written = list[tuple[str, int | None, int | None, float]]
LAMBDA = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@st.composite
def written(draw: st.DrawFn) -> Written:
    """Parts in any order: of each kind some ranges that do not overlap, and a λ for the rest of it or none."""
    parts: Written = [("other", None, None, draw(LAMBDA))]
    for kind in KINDS:
        if kind != "embedding":
            ends = sorted(draw(st.sets(st.integers(0, 7), max_size=4)))
            for first, after in pairwise(ends):
                if draw(st.booleans()):
                    parts.append((kind, first, None if after == 7 else after - 1, draw(LAMBDA)))
        if kind != "other" and draw(st.booleans()):
            parts.append((kind, None, None, draw(LAMBDA)))
    return draw(st.permutations(parts))


def text_of(parts: Written) -> str:
    shown = []
    for kind, first, last, value in parts:
        layers = "" if first is None else f"[{first}]" if first == last else f"[{first}-{'' if last is None else last}]"
        shown.append(f"{kind}{layers}={value}")
    return ",".join(shown)


def naive(parts: Written, kind: str, layer: int | None) -> float:
    """What the parts say of one module: the narrowest that is about it."""
    for name in (kind, "other"):
        for of, first, last, value in parts:
            if (
                of == name
                and first is not None
                and layer is not None
                and first <= layer <= (99 if last is None else last)
            ):
                return value
        for of, first, _, value in parts:
            if of == name and first is None:
                return value
    raise AssertionError("other is always given")


def meaning(parts: Written) -> list[float]:
    return [naive(parts, kind, layer) for kind, layer in PLACES]


@given(written(), written())
def test_the_canonical_form_says_the_same_and_is_one_for_all_that_say_it(one: Written, other: Written) -> None:
    said, also = Intensity(text_of(one)), Intensity(text_of(other))
    assert [said.at_module(kind, layer) for kind, layer in PLACES] == meaning(one)  # type: ignore[arg-type]
    assert (said == also) == (meaning(one) == meaning(other))
    if said == also:
        assert (hash(said), repr(said), said.modules) == (hash(also), repr(also), also.modules)
    if len(set(meaning(one))) == 1:
        assert type(said) is Intensity, "all parts equal are a plain number"
        return
    assert type(said) is ModuleIntensity
    assert float(said) == max(meaning(one))
    assert Intensity(said.modules) == said
    assert Intensity(said.modules).modules == said.modules
    for part in said.parts:  # nothing is redundant
        left = ",".join(str(each) for each in said.parts if each is not part)
        try:
            assert Intensity(left) != said, f"{part} of {said} says nothing"
        except InvalidIntensity:
            assert str(part).startswith("other=")


@given(written(), LAMBDA, LAMBDA)
def test_bounds_clamp_every_module(parts: Written, one: float, other: float) -> None:
    low, high = sorted((one, other))
    clamped = Intensity(text_of(parts)).clamped(low, high)
    assert [clamped.at_module(kind, layer) for kind, layer in PLACES] == [  # type: ignore[arg-type]
        min(max(value, low), high) for value in meaning(parts)
    ]
    assert (type(clamped) is Intensity) == (len({min(max(value, low), high) for value in meaning(parts)}) == 1)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ffn[0-11]=.9,ffn[12-]=.6,attention=.4,other=.5", "attention=0.4,ffn[0-11]=0.9,ffn[12-]=0.6,other=0.5"),
        ("  FFN [ 0 - 11 ] = 9e-1 ,\n Other=0.50 ", "ffn[0-11]=0.9,other=0.5"),
        ("other=.5,attention=.5,ffn=1.0", "ffn=1,other=0.5"),  # attention has what all others have
        ("ffn[0-3]=.9,ffn[4-5]=.9,ffn[7]=.9,other=0", "ffn[0-5]=0.9,ffn[7]=0.9,other=0"),  # neighbours are one range
        ("ffn[0-]=.9,other=.5", "ffn=0.9,other=0.5"),
        ("norm[0-]=.9,other=.5", "norm[0-]=0.9,other=0.5"),  # the last norm is in no layer
        ("other[8-]=.8,other=0", "other=0,other[8-]=0.8"),  # the last layers of every kind, as published
        ("other[8-]=.8,ffn=0,other=0", "ffn=0,other=0,other[8-]=0.8"),
        ("ffn=-0.0,other=1", "ffn=0,other=1"),
        ("embedding=0.1,other=0.30000000000000004", "embedding=0.1,other=0.30000000000000004"),
    ],
)
def test_it_is_shown_in_canonical_form(text: str, canonical: str) -> None:
    value = Intensity(text)
    assert (value.modules, str(value), f"{value:.2f}", repr(value)) == (canonical,) * 3 + (f"Intensity({canonical!r})",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ffn=.9,attention=.5", "leaves embedding, norm, other without a λ"),
        ("ffn[0-3]=.9,other[4-]=.5", "leaves attention, embedding, ffn, norm, other without a λ"),
        ("ffn=.9,ffn=.9,other=0", "ffn is given twice"),
        ("ffn[0-5]=.1,ffn[5]=.2,other=0", r"ffn\[0-5\] and ffn\[5\] overlap"),
        ("ffn[3-]=.1,ffn[0-8]=.2,other=0", r"ffn\[3-\] and ffn\[0-8\] overlap"),
        ("ffn[5-3]=.1,other=0", "layers 5 to 3 are none"),
        ("ffn[]=.1,other=0", "is not a part"),
        ("ffn[-3]=.1,other=0", "is not a part"),
        ("ffn[1.5]=.1,other=0", "is not a part"),
        ("ffn[0-99999999999999999999]=.1,other=0", "is not a part"),
        ("embedding[0]=.1,other=0", "embeddings stand in no layer"),
        ("atention=.1,other=0", "there is no kind 'atention'"),
        ("mlp=.1,other=0", "there is no kind 'mlp'"),
        ("ffn=nan,other=0", "λ of ffn is 'nan'"),
        ("ffn=inf,other=0", "λ of ffn is 'inf'"),
        ("ffn=1.01,other=0", "λ of ffn is '1.01'"),
        ("ffn=-.1,other=0", "λ of ffn is '-.1'"),
        ("ffn=1_0,other=0", "λ of ffn is '1_0'"),
        ("ffn=٠,other=0", "λ of ffn is '٠'"),
        ("ffn=0,5,other=0", "'5' is not a part"),
        ("ffn=.9,,other=0", "a part is empty"),
        ("ffn=.9,other=0,", "a part is empty"),
        ("=", "'=' is not a part"),
        ("ffn=.9;other=0", r"λ of ffn is '.9;other=0'"),
        ("ffn=0," * 1000 + "other=0", "longer than"),
    ],
)
def test_odd_texts_are_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(InvalidIntensity, match=said) as refused:
        Intensity(text)
    assert refused.value.hint
    assert len(str(refused.value)) < 600


def test_the_hint_of_a_missing_rest_is_right() -> None:
    with pytest.raises(InvalidIntensity) as refused:
        Intensity("ffn=.9,attention=.5")
    assert refused.value.hint is not None
    assert Intensity(refused.value.hint.split(": ")[1]).modules == "ffn=0.9,other=0.5"


def test_equal_numbers_are_not_equal_intensities() -> None:
    one, other, plain = Intensity("ffn=.9,other=.1"), Intensity("attention=.9,other=.1"), Intensity(0.9)
    assert float(one) == float(other) == float(plain) == 0.9
    values = [one, other, plain]
    for place, value in enumerate(values):
        assert [value == each for each in values] == [place == at for at in range(3)]
        assert [value != each for each in values] == [place != at for at in range(3)]
        assert value not in values[:place]
    assert (one == 0.9, one == 0.9, one != 0.9, one != 0.9) == (False, False, True, True)
    assert (one == "ffn=0.9,other=0.1", one == None, 0 == one) == (False, False, False)  # noqa: E711, SIM300
    assert len({one, other, plain, 0.9, Intensity("other=.1,ffn=.90")}) == 3
    assert {plain: "plain", one: "one"}[0.9] == "plain"


def test_a_plain_number_is_what_it_was() -> None:
    plain = Intensity(0.5)
    assert type(plain) is Intensity
    assert plain.modules is modules_of(0.5) is modules_of(None) is None
    assert (plain.at_module("ffn", 3), plain.at_module("embedding", None)) == (0.5, 0.5)
    assert (f"{plain:g}", repr(plain), str(plain), json.dumps(plain)) == (
        "0.5",
        "Intensity(0.5)",
        "Intensity(0.5)",
        "0.5",
    )
    assert type(ModuleIntensity(0.5)) is Intensity
    assert plain.clamped(0.6, 1) == 0.6


def test_it_survives_copies_and_processes() -> None:
    value = Intensity("ffn[2-]=.9,other=.1")
    for made in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value)), Intensity(value)):
        assert (type(made), made, made.modules, float(made)) == (ModuleIntensity, value, value.modules, 0.9)
    assert Intensity(value) is value


def test_no_estimator_gives_one() -> None:
    value = Intensity("ffn=.9,other=.1")
    for make in (
        lambda: Estimate(estimator="mine", intensity=value),
        lambda: Candidate(intensity=value, reasoning_tokens=1),
        lambda: FixedEstimator(value),
    ):
        with pytest.raises(InvalidIntensity, match="one λ for all modules, not one per module: ffn"):
            make()
