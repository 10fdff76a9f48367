"""A λ per module as users give it: at init, bound, per call, by configuration, in a policy; where it is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import ConfigurableField

from dami_agent import ChatDAMI
from dami_agent.errors import DamiError, InvalidIntensity, InvalidPolicy
from dami_agent.ledger import Ledger
from dami_agent.testing import FakeReply, FakeRequest, fake_chat_model
from dami_agent.types import Intensity
from tests.pairs import write_pair

TEXT, CANONICAL = "ffn=.9,attention=.5,other=.25", "attention=0.5,ffn=0.9,other=0.25"
OTHER = "attention=.9,other=.25"  # the same number


def at(request: FakeRequest) -> FakeReply:
    return FakeReply(str(request.decision.intensity.modules), reasoning="so")


def model(**settings: Any) -> ChatDAMI:
    return fake_chat_model(at, **{"weights_mode": "merged", **settings})


@pytest.mark.parametrize(
    "given", [TEXT, Intensity(TEXT), f" OTHER = 0.25, {TEXT[:-10]} "], ids=["text", "value", "odd"]
)
@pytest.mark.parametrize("how", ["init", "bind", "call", "configurable", "policy"])
def test_wherever_it_is_given_it_runs_and_is_said(how: str, given: Any) -> None:
    setting: dict[str, Any] = {"reasoning_intensity": given}
    made = model(
        **(setting if how == "init" else {"policy": {"default": {"intensity": given}}} if how == "policy" else {})
    )
    if how == "configurable":
        field = made.configurable_fields(reasoning_intensity=ConfigurableField(id="depth"))
        reply = field.invoke("hi", {"configurable": {"depth": given}})
    else:
        runs = made.bind(**setting) if how == "bind" else made
        reply = runs.invoke("hi", **(setting if how == "call" else {}))
    assert reply.content == CANONICAL
    assert reply.response_metadata["intensity_modules"] == CANONICAL
    assert reply.response_metadata["intensity"] == 0.9
    assert type(reply.response_metadata["intensity"]) is float
    assert reply.response_metadata["template"] == "thinking"
    assert CANONICAL in reply.response_metadata["reason"]
    json.dumps(reply.response_metadata)
    (row,) = made.ledger.rows()
    assert (row.intensity, row.intensity_modules) == (0.9, CANONICAL)


def test_precedence_is_that_of_numbers() -> None:
    made = model(reasoning_intensity=TEXT)
    assert made.invoke("hi", reasoning_intensity=0.9).content == "None"
    assert made.bind(reasoning_intensity=OTHER).invoke("hi").content == "attention=0.9,other=0.25"
    assert made.bind(reasoning_intensity=0.5).invoke("hi", reasoning_intensity=TEXT).content == CANONICAL
    assert made.invoke("hi", reasoning_effort="high").content == "None"  # a later level's name beats it
    assert made.invoke("hi", reasoning_intensity=TEXT, reasoning_effort="high").content == CANONICAL
    assert "intensity_modules" not in made.invoke("hi", reasoning_intensity=0.9).response_metadata


def test_streams_and_async_say_it_once() -> None:
    made = model(reasoning_intensity=TEXT)
    chunks = list(made.stream("hi"))
    assert [c.response_metadata["intensity_modules"] for c in chunks if "intensity_modules" in c.response_metadata] == [
        CANONICAL
    ]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.response_metadata["intensity_modules"] == CANONICAL


@pytest.mark.parametrize("how", ["init", "bind", "call"])
def test_a_response_cache_tells_equal_numbers_apart_and_equal_texts_not(how: str) -> None:
    cache = InMemoryCache()
    made = model(cache=cache)

    def ask(value: Any) -> Any:
        setting = {"reasoning_intensity": value}
        if how == "init":
            return ChatDAMI(
                **{**{n: getattr(made, n) for n in ("engine", "dialogue", "ledger")}, **setting}, cache=cache
            ).invoke("hi")
        return made.bind(**setting).invoke("hi") if how == "bind" else made.invoke("hi", **setting)

    for value, said in ((TEXT, CANONICAL), (OTHER, "attention=0.9,other=0.25"), (0.9, "None")):
        assert ask(value).content == said
    assert len(made.engine.requests) == 3
    for value in ("other=.250,FFN=.90,attention=.5", Intensity(TEXT), CANONICAL):
        assert ask(value).content == CANONICAL
    assert ask("ffn=.9,other=.9").content == "None"
    assert len(made.engine.requests) == 3, "the same λ, written otherwise, is the same question"


def test_settings_are_kept_by_copies_processes_and_json() -> None:
    made = ChatDAMI(reasoning_intensity=TEXT, weights_mode="merged")
    assert made.reasoning_intensity == Intensity(TEXT)
    for copy in (made.model_copy(), made.model_copy(deep=True), pickle.loads(pickle.dumps(made))):
        assert copy.reasoning_intensity == Intensity(TEXT)
        assert repr(copy) == repr(made)
    assert json.loads(made.model_dump_json(include={"reasoning_intensity"})) == {"reasoning_intensity": CANONICAL}
    plain = ChatDAMI(reasoning_intensity=0.5)
    assert json.loads(plain.model_dump_json(include={"reasoning_intensity"})) == {"reasoning_intensity": 0.5}
    assert ChatDAMI(reasoning_intensity="ffn=.5,other=.5").reasoning_intensity == 0.5


def test_callbacks_hear_it() -> None:
    heard: list[Any] = []

    class Listener(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            heard.append(kwargs["metadata"]["ls_reasoning_intensity"])

    made = model()
    for value in (TEXT, 0.5, "auto"):
        made.invoke("hi", {"callbacks": [Listener()]}, reasoning_intensity=value)
    assert heard == [CANONICAL, 0.5, "auto"]


@pytest.mark.parametrize("text", ["ffn=.9", "ffn=.9,ffn=.8,other=0", "mlp=.9,other=0", "ffn=nan,other=0"])
def test_a_wrong_text_is_refused_at_init_bind_and_call(text: str) -> None:
    made = model()
    for give in (
        lambda: made.bind(reasoning_intensity=text),
        lambda: made.invoke("hi", reasoning_intensity=text),
        lambda: ChatDAMI(reasoning_intensity=text),
    ):
        with pytest.raises(ValueError, match=r"reasoning intensity 'ffn|reasoning intensity 'mlp"):
            give()
    assert made.ledger.rows() == []


@pytest.mark.parametrize("how", ["init", "call", "policy", "answer"])
def test_mixed_weights_refuse_it_before_any_work(how: str) -> None:
    settings: dict[str, Any] = {}
    if how in ("policy", "answer"):
        name = "intensity" if how == "policy" else "answer_intensity"
        settings = {"policy": {"rules": [{"name": "deep", "when": {"tags": "deep"}, name: TEXT}]}}
    made = fake_chat_model(at, weights_mode="mixed", **({"reasoning_intensity": TEXT} if how == "init" else settings))
    with pytest.raises(DamiError) as refused:
        made.invoke("hi", **({"reasoning_intensity": TEXT} if how == "call" else {}))
    assert isinstance(refused.value, InvalidPolicy if how in ("policy", "answer") else InvalidIntensity)
    assert "mixed weights" in refused.value.message
    assert 'weights_mode="merged"' in str(refused.value.hint)
    assert made.engine.requests == []
    assert made.ledger.rows() == []


@pytest.mark.parametrize("mode", ["auto", "mixed"])
def test_a_real_pair_that_auto_holds_mixed_says_what_to_do(tmp_path: Path, mode: str) -> None:
    instruct, thinking = map(str, write_pair(tmp_path, dtype="float32"))
    made = ChatDAMI(instruct=instruct, thinking=thinking, weights_mode=mode, ledger="off", reasoning_intensity=TEXT)
    with pytest.raises(InvalidIntensity, match="mixed weights") as refused:
        made.invoke("hi")
    assert '"auto" may choose mixed' in str(refused.value.hint)
    made.close()


def test_a_real_pair_runs_it_merged_and_replays_from_its_ledger(tmp_path: Path) -> None:
    instruct, thinking = map(str, write_pair(tmp_path, dtype="float32"))
    ledger = Ledger.open(tmp_path / "ledger.sqlite", keep_text=True)
    made = ChatDAMI(instruct=instruct, thinking=thinking, weights_mode="merged", ledger=ledger, seed=3, max_tokens=12)
    values = (TEXT, OTHER, 0.9)
    first = [made.invoke("What is 3 plus 4?", reasoning_intensity=value) for value in values]
    rows = ledger.rows()
    assert [row.intensity for row in rows] == [0.9, 0.9, 0.9]
    assert [row.used for row in rows] == [Intensity(value) for value in values]
    assert len({reply.text + str(reply.additional_kwargs) for reply in first}) > 1
    again = [made.invoke("What is 3 plus 4?", reasoning_intensity=row.used) for row in rows]
    assert [(r.text, r.additional_kwargs) for r in again] == [(r.text, r.additional_kwargs) for r in first]
    made.close()
