"""Engines and estimators of other distributions: found by entry point, and blamed by name where they are broken."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from dami_agent import ChatDAMI
from dami_agent.errors import InvalidPolicy, InvalidRequest
from dami_agent.estimators import ConfidenceEstimator, estimator_named, estimator_names, register_estimator
from dami_agent.estimators.registry import unregister_estimator
from dami_agent.session import SessionKey, open_session
from dami_agent.testing import FakeReply, fake_chat_model
from dami_agent.types import Intensity

TOY = """
from transformers import AutoTokenizer
from dami_agent.estimators import FixedEstimator
from dami_agent.testing import FakeEngine
from dami_agent.types import Estimate, Intensity

opened = []

class ToyEngine(FakeEngine):
    @classmethod
    def open(cls, pair, *, device, dtype, mode, context_length, max_batch_size=1):
        opened.append((device, dtype, mode, context_length, max_batch_size))
        tokenizer = AutoTokenizer.from_pretrained(pair.instruct.path)

        def encode(text):
            return tokenizer.encode(text, add_special_tokens=False)

        return cls(lambda request: f"toy at {request.decision.intensity:g}", encode)

class ToyEstimator(FixedEstimator):
    name = "toy"

    def __init__(self):
        super().__init__(Intensity(0.25))

def needs_more(argument): ...

class Fails:
    @staticmethod
    def open(pair, **options):
        raise ZeroDivisionError("a bug")

class OpensNothing:
    @staticmethod
    def open(pair, **options):
        return "an engine"

a_number = 7
def makes_a_number(): return 7
"""
Publish = Callable[..., None]


def forget() -> None:
    for name in ("toy", "other", "confidence"):
        unregister_estimator(name)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Publish]:
    """Install a distribution, as far as importlib can see: a module, its metadata, its entry points."""
    forget()
    site = tmp_path / "site"
    site.mkdir()
    (site / "toy_dami.py").write_text(TOY, encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))

    def install(name: str = "toy-dami", **groups: str) -> None:
        info = site / f"{name.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n", encoding="utf-8")
        lines = [f"[dami_agent.{group}]\n{entries}\n" for group, entries in groups.items()]
        (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
        importlib.invalidate_caches()

    yield install
    sys.modules.pop("toy_dami", None)
    forget()


def test_an_engine_of_another_distribution_is_used_by_name(publish: Publish) -> None:
    publish(engines="toy = toy_dami:ToyEngine")
    model = ChatDAMI(engine="toy", context_length=300, max_batch_size=3, ledger=":memory:")
    try:
        reply = model.invoke("Hello?", reasoning_intensity=0.75)
        assert reply.content == "toy at 0.75"
        assert sys.modules["toy_dami"].opened == [("auto", "auto", "auto", 300, 3)]
        assert ChatDAMI(engine="toy", context_length=300, max_batch_size=3, ledger=":memory:").pipeline().engine is (
            model.pipeline().engine
        )
    finally:
        model.close()


def test_an_estimator_of_another_distribution_is_used_by_name(publish: Publish) -> None:
    publish(estimators="toy = toy_dami:ToyEstimator")
    assert "toy_dami" not in sys.modules
    assert fake_chat_model(["a"], estimator="toy").invoke("?").response_metadata["estimate"]["estimator"] == "toy"
    model = fake_chat_model(["a"], policy={"default": {"estimator": "toy"}})
    assert model.invoke("?").response_metadata["intensity"] == 0.25
    assert estimator_named("toy") is estimator_named("toy")
    assert estimator_names() == ["auto", "confidence", "entropy", "joint", "preference", "router", "staged", "toy"]
    assert isinstance(estimator_named("confidence"), ConfidenceEstimator)


def test_one_that_is_registered_in_this_process_goes_first(publish: Publish) -> None:
    publish(estimators="toy = toy_dami:missing")
    register_estimator("toy", ConfidenceEstimator)
    assert isinstance(estimator_named("toy"), ConfidenceEstimator)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("missing_package:Engine", "cannot be imported: ModuleNotFoundError: No module named 'missing_package'"),
        ("toy_dami:missing", "cannot be imported: AttributeError"),
        ("toy_dami:a_number", r"has no open\(\)"),
        ("toy_dami:Fails", "cannot be opened: ZeroDivisionError: a bug"),
        ("toy_dami:OpensNothing", "opened an object of type str"),
    ],
)
def test_a_broken_engine_is_blamed_on_its_distribution(publish: Publish, value: str, problem: str) -> None:
    publish(engines=f"toy = {value}")
    with pytest.raises(
        InvalidRequest, match=rf"the engine 'toy' .* of the distribution toy-dami 1\.5 {problem}"
    ) as caught:
        open_session(SessionKey(engine="toy"))
    assert caught.value.hint


def test_a_setting_that_an_engine_does_not_take_is_named(publish: Publish) -> None:
    publish(engines="toy = toy_dami:ToyEngine")
    with pytest.raises(InvalidRequest, match=r"toy-dami 1\.5 cannot be opened with these settings: .*'closing_words'"):
        open_session(SessionKey(engine="toy", closing_words="So."))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("missing_package:E", "cannot be imported: ModuleNotFoundError"),
        ("toy_dami:a_number", "is of type int and cannot be called"),
        ("toy_dami:needs_more", "cannot be made: TypeError"),
        ("toy_dami:makes_a_number", "made an object of type int"),
    ],
)
def test_a_broken_estimator_is_blamed_on_its_distribution(publish: Publish, value: str, problem: str) -> None:
    publish(estimators=f"toy = {value}")
    blamed = rf"the estimator 'toy' .* of the distribution toy-dami 1\.5 {problem}"
    with pytest.raises(InvalidRequest, match=blamed):
        estimator_named("toy")
    with pytest.raises(ValidationError, match=blamed):
        ChatDAMI(estimator="toy")
    with pytest.raises(InvalidPolicy, match=blamed):
        fake_chat_model([FakeReply("a")], policy={"default": {"estimator": "toy"}}).invoke("?")


def test_the_name_of_a_built_in_one_cannot_be_taken(publish: Publish) -> None:
    publish(engines="local = toy_dami:ToyEngine", estimators="confidence = toy_dami:ToyEstimator")
    with pytest.raises(InvalidRequest, match=r"toy-dami 1\.5 has the name of a built-in engine\n  hint: .*uninstall"):
        open_session(SessionKey(engine="local", context_length=97))
    with pytest.raises(InvalidRequest, match=r"toy-dami 1\.5 has the name of a built-in estimator"):
        estimator_named("confidence")


def test_a_name_that_two_distributions_publish_is_refused(publish: Publish) -> None:
    publish(estimators="toy = toy_dami:ToyEstimator\nother = toy_dami:ToyEstimator")
    publish("other-dami", estimators="toy = toy_dami:ToyEstimator")
    with pytest.raises(InvalidRequest, match=r"two distributions .* 'toy': other-dami 1\.5, toy-dami 1\.5"):
        estimator_named("toy")
    estimator = estimator_named("other").estimate(None, None, None)  # type: ignore[arg-type]
    assert estimator.intensity == Intensity(0.25)  # what is broken harms nobody who does not use it


def test_unknown_names_list_those_that_exist(publish: Publish) -> None:
    publish(engines="toy = toy_dami:ToyEngine", estimators="toy = toy_dami:ToyEstimator")
    with pytest.raises(
        InvalidRequest, match=r"no engine is named 'locl'\n  hint: known: local, toy, vllm; .*'local'\?"
    ):
        open_session(SessionKey(engine="locl"))
    with pytest.raises(
        InvalidRequest,
        match=r"no estimator is named 'toi'\n  hint: known: auto, .*, router, staged, toy; did you mean 'toy'\?",
    ):
        estimator_named("toi")
