"""Nothing that is put on record reaches an answer, and one row harms no other: hostile values and records."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dami_agent import ChatDAMI
from dami_agent.ledger import Ledger, Prices, runs, totals, trace
from dami_agent.ledger.plain import MOST_VALUES, plain
from dami_agent.testing import FakeReply, fake_chat_model
from dami_agent.types import CallRecord
from tests.ledger.records import make_record


class Hostile:
    """Raises whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    @property
    def __class__(self) -> type:
        raise RuntimeError("no class")


class Text(str):
    def __len__(self) -> int:
        raise RuntimeError("no length")

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("no bytes")

    def isascii(self) -> bool:
        raise RuntimeError("nor that")


class Number(int):
    def __repr__(self) -> str:
        raise RuntimeError("no digits")


class Endless(dict[str, Any]):
    def items(self) -> Any:
        return ((str(n), n) for n in iter(int, 1))


class Fails(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


def ring() -> list[Any]:
    made: list[Any] = []
    made.extend([made] * 50)  # grows by fifty at each level
    return made


def doubled() -> list[Any]:
    made: list[Any] = [0]
    for _ in range(200):
        made = [made, made]
    return made


VALUES: dict[str, Callable[[], Any]] = {
    "an integer of 5,000 digits": lambda: 10**5_000,
    "a negative one": lambda: -(10**5_000),
    "nan": lambda: float("nan"),
    "a lone surrogate": lambda: "\ud800",
    "nul": lambda: "a\0b",
    "hostile": Hostile,
    "a text that is not one": lambda: Text("abc"),
    "a number that is not one": lambda: Number(7),
    "endless": Endless,
    "a ring": ring,
    "doubled": doubled,
    "deep": lambda: json.loads("[" * 900 + "]" * 900),
    "wide": lambda: list(range(100_000)),
    "bytes": lambda: b"\xff\0",
    "hostile keys": lambda: {Text("k"): 1, 10**5_000: 2, float("nan"): 3, "\ud800": 4},
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("field", ["metadata", "node", "thread_id", "tags", "step", "run_name"])
def test_a_hostile_value_costs_no_call_and_no_later_row(tmp_path: Path, name: str, field: str) -> None:
    value = VALUES[name]()
    odd = {"metadata": {"x": value, "y": 1}, "tags": (value, "b")}.get(field, value)
    ledger = Ledger.open(tmp_path / "ledger.sqlite", keep_text=True)
    start = time.monotonic()
    for seed, given in enumerate([{}, {field: odd}, {}]):
        ledger.record(make_record(seed, **given))
    assert time.monotonic() - start < 5
    rows = ledger.rows()
    assert (len(rows), rows.skipped, ledger.waiting) == (3, 0, 0)
    json.dumps([row.to_dict() for row in rows], allow_nan=False)
    assert ledger.verify().whole
    if field == "metadata" and name != "endless":
        assert rows[1].metadata["y"] == 1
    ledger.close()


def test_what_has_another_shape_than_its_column_is_kept_in_the_columns_own(tmp_path: Path) -> None:
    """Found by the fuzz test: such rows were written, and then skipped as damaged or not shown by a notebook."""
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    with trace() as t:
        ledger.record(make_record(1, metadata=[1], tags={"a": 1}, node=["x"]))
        ledger.record(make_record(1, metadata=None, tags=None, started_at=1e300))
        ledger.record(make_record(1, metadata="text", tags="text", started_at=10**40))
    rows = ledger.rows()
    assert (len(rows), rows.skipped) == (3, 0)
    assert [row.metadata for row in t.steps] == [{"value": [1]}, {}, {"value": "text"}]
    assert [row.tags for row in t.steps] == [('{"a": 1}',), (), ("text",)]
    assert t._repr_html_()
    ledger.close()


@pytest.mark.parametrize("seconds", [7.2e16, -7.2e16, 1.7e308, 10**40, float("inf"), float("nan")])
def test_a_time_that_cannot_be_is_none_and_sums_stay_numbers(tmp_path: Path, seconds: float) -> None:
    """Found by the fuzz test: `dami runs` ended with an OverflowError, and sums of such times were no JSON."""
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    ledger.record(dataclasses.replace(make_record(1), started_at=0.0, seconds=2.5))
    for _ in range(2):
        ledger.record(dataclasses.replace(make_record(2), started_at=10.0, seconds=seconds))
    rows = ledger.rows()
    assert ([row.seconds for row in rows], rows.skipped) == ([2.5, 0.0, 0.0], 0)
    assert json.loads(json.dumps(totals(rows), allow_nan=False))["seconds"] == 2.5
    assert [run.seconds for run in runs(rows)] == [10.0]
    ledger.close()


def test_the_greatest_time_that_is_kept_can_be_added_up(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    for start in (-62_000_000_000.0, 253_000_000_000.0):
        ledger.record(dataclasses.replace(make_record(1), started_at=start, seconds=1e15))
    (run,) = runs(ledger.rows())
    assert (run.seconds, run.totals["seconds"]) == (315_000_000_000.0 + 1e15, 2e15)
    ledger.close()


def test_plain_values_are_bounded() -> None:
    assert plain(10**5_000).startswith("0x")
    assert plain(2**80) == 2**80
    assert len(json.dumps(plain(ring()))) < 100 * MOST_VALUES
    assert plain({"a": (1, None, True), "b": {2.5}}) == {"a": [1, None, True], "b": [2.5]}
    assert plain({1: "x", "1": "y"}) == {"1": "x", "1#1": "y"}
    assert plain("secret " * 1000, lambda text: text.replace("secret", "[gone]")).count("secret") == 0


def call(model: ChatDAMI, metadata: dict[str, Any]) -> Any:
    return model.invoke("hello", config={"metadata": metadata}).content


@pytest.mark.parametrize("name", ["an integer of 5,000 digits", "hostile", "a ring"])
def test_an_innocent_call_after_a_hostile_one(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The report: an integer of 5,000 digits in metadata made a later call raise and stopped all later writes."""
    model = fake_chat_model([FakeReply("one"), FakeReply("two"), FakeReply("three")])
    model.ledger = Ledger.open(tmp_path / "ledger.sqlite")
    with trace() as t:
        assert [call(model, {}), call(model, {"x": VALUES[name]()}), call(model, {})] == ["one", "two", "three"]
    assert len(t.steps) == len(model.ledger.rows()) == 3
    model.ledger.close()


def broken_parts() -> Iterator[tuple[str, CallRecord]]:
    record = make_record(1)
    assert record.decision is not None
    assert record.generation is not None
    yield "started", dataclasses.replace(record, started_at=float("nan"))
    yield "seconds", dataclasses.replace(record, seconds=float("inf"))
    yield "model", dataclasses.replace(record, model=Hostile())  # type: ignore[arg-type]
    yield "decision", dataclasses.replace(record, decision=7)  # type: ignore[arg-type]
    yield "generation", dataclasses.replace(record, generation=Hostile())  # type: ignore[arg-type]
    yield "step", dataclasses.replace(record, step=None)  # type: ignore[arg-type]
    yield "reason", dataclasses.replace(record, decision=dataclasses.replace(record.decision, reason=Hostile()))  # type: ignore[arg-type]
    yield "limits", dataclasses.replace(record, decision=dataclasses.replace(record.decision, limits=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "broken"), list(broken_parts()), ids=lambda v: v if isinstance(v, str) else "")
def test_a_record_that_cannot_be_read_is_lost_alone_and_said_so(
    tmp_path: Path, name: str, broken: CallRecord, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    ledger.record(make_record(0))
    ledger.record(broken)
    ledger.record(make_record(2))
    kept = len(ledger.rows())
    assert kept == 3 or (kept == 2 and "is lost" in caplog.text)
    assert (ledger.waiting, ledger.rows().skipped) == (0, 0)
    ledger.close()


class BrokenPrices(Prices):
    def cost_of(self, record: CallRecord) -> float | None:
        raise ZeroDivisionError


def test_a_price_table_that_fails_leaves_the_cost_unknown(caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger.open(":memory:", prices=BrokenPrices())
    ledger.record(make_record(1))
    assert [row.cost for row in ledger.rows()] == [None]
    assert "price" in caplog.text


def test_an_exception_without_a_text_is_on_record() -> None:
    def reply(_: Any) -> FakeReply:
        raise Fails

    model = fake_chat_model(reply)
    with pytest.raises(Fails):
        model.invoke("hello")
    assert [row.error_type for row in model.ledger.rows()] == ["Fails"]


class BrokenRecorder(Ledger):
    def record(self, record: CallRecord) -> None:
        raise RuntimeError("a recorder of the user's own")


def test_a_recorder_that_raises_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    model = fake_chat_model([FakeReply("fine")], ledger=BrokenRecorder(None))
    assert model.invoke("hello").content == "fine"
    assert "could not be put on record" in caplog.text
