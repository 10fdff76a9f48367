"""A λ per module on record: the canonical text beside the number, in rows, JSON, CSV, views, exports; and checked."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dami_agent.cli.call_view import line
from dami_agent.cli.logs import _csv
from dami_agent.ledger import Ledger
from dami_agent.types import CallRecord, Intensity, IntensityRequest
from tests.ledger.records import make_record

ASKED, USED, ANSWER = "ffn=0.9,other=0.1", "ffn=0.6,other=0.1", "norm=0.6,other=0.1"
COLUMNS = {
    "intensity_modules": USED,
    "intensity_requested_modules": ASKED,
    "intensity_bounded_modules": USED,
    "intensity_answer_modules": ANSWER,
}


def recorded(seed: int = 3) -> CallRecord:
    record = make_record(seed)
    assert record.decision is not None
    assert record.generation is not None
    asked, used = Intensity(ASKED), Intensity(USED)
    return dataclasses.replace(
        record,
        step=dataclasses.replace(record.step, intensity_request=IntensityRequest(intensity=asked, origin="bind")),
        decision=dataclasses.replace(record.decision, intensity=used, requested=asked, bounded=used),
        generation=dataclasses.replace(record.generation, intensity=used, answer_intensity=Intensity(ANSWER)),
    )


def test_a_row_holds_text_and_number() -> None:
    ledger = Ledger.open(":memory:")
    ledger.record(recorded())
    ledger.record(dataclasses.replace(recorded(4), generation=None))  # it failed before a token
    ledger.record(make_record(5))
    whole, failed, plain = ledger.rows()
    assert {name: getattr(whole, name) for name in COLUMNS} == COLUMNS
    assert (whole.intensity, whole.intensity_requested, whole.intensity_bounded, whole.intensity_answer) == (
        0.6,
        0.9,
        0.6,
        0.6,
    )
    assert (whole.used, whole.answered, whole.asked) == (Intensity(USED), Intensity(ANSWER), ASKED)
    assert (failed.intensity_modules, failed.intensity_answer_modules) == (USED, None)
    assert {getattr(plain, name) for name in COLUMNS} == {None}
    assert (plain.used, plain.answered) == (plain.intensity, None)
    assert type(plain.used) is Intensity
    assert ledger.verify().whole
    shown = json.loads(json.dumps(whole.to_dict()))
    assert {name: shown[name] for name in COLUMNS} == COLUMNS
    assert shown["intensity"] == 0.6
    (first, *_) = csv.DictReader(io.StringIO(_csv(ledger.rows())))
    assert {name: first[name] for name in COLUMNS} == COLUMNS
    assert f"λ={USED}/{ANSWER}" in line(whole)
    assert ledger.rows(containing="NORM=0.6") == [whole]


def test_a_long_one_is_not_cut() -> None:
    long = Intensity(",".join(f"ffn[{layer}]=0.{layer % 7}1" for layer in range(200)) + ",other=0.987654321")
    assert long.modules is not None
    assert len(long.modules) > 2000
    record = recorded()
    assert record.generation is not None
    ledger = Ledger.open(":memory:")
    ledger.record(dataclasses.replace(record, generation=dataclasses.replace(record.generation, intensity=long)))
    assert ledger.rows()[0].used == long
    assert ledger.verify().whole


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ("intensity = 0.5", "intensity_modules is not"),
        ("intensity_modules = 'other=0.1,ffn=0.6'", "intensity_modules is not"),
        ("intensity_answer_modules = 'mlp=1,other=0'", "intensity_answer_modules is not"),
        ("intensity_requested_modules = '0.9'", "intensity_requested_modules is not"),
    ],
)
def test_verification_compares_text_and_number(tmp_path: Path, change: str, wrong: str) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    ledger.record(recorded())
    assert ledger.verify().whole
    ledger.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"update calls set {change}")
    connection.close()
    found: Any = Ledger.open(path).verify()
    assert len(found.problems) == 1
    assert wrong in found.problems[0]
