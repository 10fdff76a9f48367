"""Estimators by name: one object for all who ask, names that are taken or unknown refused with what is known."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dami_agent import ChatDAMI
from dami_agent.errors import InvalidPolicy, InvalidRequest
from dami_agent.estimators import ConfidenceEstimator, FixedEstimator, estimator_named, estimator_names, registry
from dami_agent.estimators import register_estimator as register
from dami_agent.testing import fake_chat_model
from dami_agent.types import Intensity


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = set(estimator_names())
    yield
    for name in {*estimator_names()} - before | {"confidence"}:
        registry.unregister_estimator(name)


def half() -> FixedEstimator:
    return FixedEstimator(Intensity(0.5))


def test_an_estimator_is_made_once_however_many_ask_at_once() -> None:
    made: list[FixedEstimator] = []
    barrier = threading.Barrier(8)

    def make() -> FixedEstimator:
        made.append(half())
        return made[-1]

    def ask(_: int) -> Any:
        barrier.wait()
        return estimator_named("half")

    register("half", make)
    assert not made  # not before it is asked for
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len(made) == 1
    assert all(each is made[0] for each in found)
    assert isinstance(estimator_named("confidence"), ConfidenceEstimator)
    assert estimator_names() == ["auto", "confidence", "entropy", "half", "joint", "preference", "router", "staged"]


def test_unknown_and_taken_names_are_refused() -> None:
    register("half", half)
    register("half", half)  # a cell of a notebook that runs twice
    with pytest.raises(InvalidRequest, match="registered already"):
        register("half", FixedEstimator)
    with pytest.raises(
        InvalidRequest,
        match=r"no estimator is named 'halff'\n  hint: known: auto, .*, half, joint, preference, router, staged;",
    ):
        estimator_named("halff")
    assert estimator_named("half").intensity == 0.5  # type: ignore[attr-defined]
    register("half", FixedEstimator, replace=True)
    assert estimator_named("half").intensity == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "make"), [("", half), ("  ", half), (None, half), ("x", half())])
def test_what_is_no_registration_is_refused(name: Any, make: Any) -> None:
    with pytest.raises(InvalidRequest):
        register(name, make)


def test_what_is_no_estimator_is_refused_when_it_is_made() -> None:
    register("wrong", lambda: "λ")  # type: ignore[arg-type, return-value]
    with pytest.raises(InvalidRequest, match="'wrong' made a str"):
        estimator_named("wrong")


def test_policies_and_models_ask_by_name() -> None:
    register("half", half)
    policy = {"tools": {"search": {"estimator": "half"}}, "default": {"intensity": 0.25}}
    model = fake_chat_model(["a", "b"], policy=policy)
    choice = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
    tools = {"tools": [choice], "tool_choice": "search"}
    assert model.invoke("?", reasoning_intensity="auto", **tools).response_metadata["intensity"] == 0.5
    assert model.invoke("?").response_metadata["intensity"] == 0.25
    named = fake_chat_model(["a"], estimator="half")
    assert named.estimator is estimator_named("half")
    assert named.invoke("?").response_metadata["estimate"]["estimator"] == "fixed"


def test_a_policy_that_asks_for_nobody_is_refused_with_the_names_that_are_known() -> None:
    with pytest.raises(
        InvalidPolicy, match=r"no estimator is named 'hlaf'\n  hint: known: auto, confidence.*own: fixed"
    ):
        fake_chat_model([], policy={"default": {"estimator": "hlaf"}}).invoke("?")
    with pytest.raises(ValidationError, match="no estimator is named 'hlaf'"):
        ChatDAMI(estimator="hlaf")


def test_a_models_own_estimator_goes_before_a_registered_one_of_its_name() -> None:
    register("fixed", FixedEstimator)
    model = fake_chat_model(["a"], intensity=0.5, policy={"default": {"estimator": "fixed"}})
    assert model.invoke("?").response_metadata["intensity"] == 0.5


def test_the_example_of_the_docs_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    (block,) = [text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "register_estimator" in text]
    exec(compile(block, "policy.md", "exec"), {})
    assert estimator_named("half").estimate(None, None, None).intensity == 0.5  # type: ignore[arg-type]
