"""What schemas 2 and 3 added: bounds, rule, charge, cache, fingerprint, cost, text; λ bounded and snapped, tokens
discarded; and that older files get it in place."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dami_agent.errors import LedgerError
from dami_agent.ledger import Ledger, Price, Prices, trace
from dami_agent.ledger.call_text import FAILED, step_of
from dami_agent.ledger.schema import RENAMED_V5
from dami_agent.types import CallRecord, Intensity, Limits, Message, ResponseFormat, Tool, ToolCall
from tests.ledger.records import make_record

FOLDER = Path(__file__).parent
TEXTS = ("prompt_text", "reasoning_text", "answer_text")


def decided(record: CallRecord, **changes: Any) -> CallRecord:
    assert record.decision is not None
    return dataclasses.replace(record, decision=dataclasses.replace(record.decision, **changes))


def test_a_row_says_why() -> None:
    record = decided(
        make_record(random.randrange(10**6)),
        bounds=(0.25, 0.75),
        rule="tools.search",
        considered=("nodes.plan: the node is model", "default: a rule matched"),
        charged_to="search",
    )
    assert record.generation is not None
    generation = dataclasses.replace(record.generation, cached_tokens=7, reread_tokens=48, prompt_tokens=90)
    generation = dataclasses.replace(generation, answer_intensity=Intensity(0.0))
    record = dataclasses.replace(record, fingerprint="abc", frontier="frontier.json", generation=generation)
    ledger = Ledger.open(":memory:")
    ledger.record(record)
    ledger.record(make_record(1))
    row, plain = ledger.rows(call=record.step.run_context.call_id)[0], ledger.rows()[0]
    assert (row.intensity_low, row.intensity_high, row.intensity_answer) == (0.25, 0.75, 0.0)
    assert (row.rule, row.charged_to) == ("tools.search", "search")
    assert row.considered == ("nodes.plan: the node is model", "default: a rule matched")
    assert (row.fingerprint, row.frontier, row.cached_tokens, row.reread_tokens) == ("abc", "frontier.json", 7, 48)
    assert (plain.intensity_low, plain.intensity_high, plain.intensity_answer, plain.rule) == (None,) * 4
    assert (plain.considered, plain.charged_to, plain.cached_tokens, plain.reread_tokens) == ((), "answer", 0, 0)
    assert (plain.cost, plain.currency, plain.fingerprint, plain.frontier) == (None,) * 4


def test_what_a_probe_read_again_counts_once() -> None:
    record = make_record(5)
    generation, estimate = record.generation, record.decision.estimate if record.decision else None
    assert generation is not None
    assert estimate is not None
    main = dataclasses.replace(generation, reread_tokens=64)
    probe = dataclasses.replace(generation, intensity=Intensity(0), reread_tokens=32)
    for generated, probed, expected in ((main, None, 64), (main, probe, 96), (probe, probe, 32), (None, probe, 32)):
        made = decided(record, estimate=dataclasses.replace(estimate, probe=probed))
        assert dataclasses.replace(made, generation=generated).reread_tokens == expected
    assert dataclasses.replace(record, decision=None, generation=None).reread_tokens == 0


@pytest.mark.parametrize("schema", [1, 2, 3, 4, 5, 6, 7])
def test_an_older_file_is_upgraded_in_place(tmp_path: Path, schema: int) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript((FOLDER / f"ledger_v{schema}.sql").read_text(encoding="utf-8"))
        connection.row_factory = sqlite3.Row
        before = [dict(values) for values in connection.execute("select * from calls order by id")]
    connection.close()
    ledger = Ledger.open(path)
    rows = ledger.rows()  # reading is enough
    assert [(r.call_id, r.reason, r.output_tokens, r.error) for r in rows] == [
        (v["call_id"], v["reason"], v["output_tokens"], v["error"]) for v in before
    ]
    assert {r.intensity_modules for r in rows} == {None}
    assert {r.reread_tokens for r in rows} == ({None} if schema < 7 else {None, 48})
    if schema < 4:
        assert {(r.run_name, r.root_run_name, r.trace_names, r.names) for r in rows} == {(None, None, (), ())}
    if schema < 3:
        assert {(r.intensity_bounded, r.intensity_snapped, r.discarded_tokens) for r in rows} == {(None, None, None)}
    if schema == 1:
        assert {(r.cached_tokens, r.charged_to, r.considered, r.cost, r.prompt_text) for r in rows} == {
            (None, None, (), None, None)
        }
    ledger.record(decided(make_record(77), rule="new", bounded=0.4, snapped=0.25))
    assert (ledger.rows()[-1].intensity_bounded, ledger.rows()[-1].intensity_snapped) == (0.4, 0.25)
    assert ledger.verify().whole
    ledger.close()
    with sqlite3.connect(path) as connection:
        assert [n for (n,) in connection.execute("select number from dami_migrations order by 1")] == [*range(1, 9)]
        names = ", ".join(RENAMED_V5.get(name, name) for name in before[0])
        after = connection.execute(f"select {names} from calls order by id").fetchall()
    connection.close()
    assert after[:-1] == [tuple(v.values()) for v in before]  # not a bit of the old columns has changed
    assert len(after) == len(before) + 1


def test_schema_4_opens_with_its_values_under_the_new_names(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript((FOLDER / "ledger_v4.sql").read_text(encoding="utf-8"))
        before = connection.execute("select money, currency, dropped_tokens from calls order by id").fetchall()
    connection.close()
    ledger = Ledger.open(path)
    rows = ledger.rows()
    assert [(r.cost, r.currency, r.discarded_tokens) for r in rows] == before
    assert {r.discarded_tokens for r in rows} == {0, 2}
    assert all(r.cost for r in rows)
    assert {(r.run_name, r.root_run_name, r.trace_names) for r in rows} == {("digest", "nightly-agent", ("nightly",))}
    assert "money" not in rows[0].to_dict()
    ledger.record(make_record(77))
    assert ledger.verify().whole
    ledger.close()


# ---- cost -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(0, 50), st.booleans())
def test_cost_against_a_sum_by_hand(seed: int, cached: int, failed: bool) -> None:
    record = make_record(seed, error="E: x" if failed else None)
    decision = record.decision
    assert record.generation is not None
    assert decision is not None
    assert decision.estimate is not None
    generation = dataclasses.replace(record.generation, cached_tokens=cached)
    record = dataclasses.replace(record, generation=generation, discarded_tokens=seed % 5)
    price = Price(prompt=3.0, cached=1.0, output=7.0, device_second=0.5)
    expected = decision.estimate.seconds * 0.5 + (0.2 + 0.3 + 1.5) * 0.5
    hit = min(cached, generation.prompt_tokens)
    probe = decision.estimate.probe
    for tokens, each in (
        (probe.prompt_tokens if probe is not None and probe.output_tokens else 0, 3e-6),  # read, and discarded
        (seed % 5, 7e-6),
        (generation.prompt_tokens - hit, 3e-6),
        (hit, 1e-6),
        (decision.estimate.scored_tokens, 3e-6),
        (generation.reasoning_tokens + generation.answer_tokens + record.probe_tokens, 7e-6),
    ):
        expected += tokens * each
    assert Prices(models={"tiny": price}).cost_of(record) == pytest.approx(expected)
    assert Prices(models={"*": price, "tiny": Price(output=7.0)}).cost_of(record) == pytest.approx(
        record.output_tokens * 7e-6
    )
    assert Prices(models={"another": price}).cost_of(record) is None


def test_a_price_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"currency": "EUR", "models": {"*": {"output": 2_000_000}}}))
    record = make_record(5)
    for ledger in (
        Ledger.open(tmp_path / "a.sqlite", prices=file),
        Ledger.open(tmp_path / "b.sqlite", prices=Prices.from_file(file)),
        (monkeypatch.setenv("DAMI_LEDGER_PRICES", str(file)), Ledger.open(tmp_path / "c.sqlite"))[1],
    ):
        ledger.record(record)
        (row,) = ledger.rows()
        assert (row.cost, row.currency) == (pytest.approx(2 * record.output_tokens), "EUR")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot read the prices"),
        ("[]", "models is missing"),
        ('{"models": {}, "curency": "EUR"}', "curency is not a known field"),
        ('{"models": {"*": 3}}', r"models\.\* must be an object"),
        ('{"models": {"tiny": {"ouput": 3}}}', r"models\.tiny\.ouput is not a known field"),
        ('{"models": {"tiny": {"output": -1}}}', r"models\.tiny\.output must be a number of at least 0"),
        ('{"models": {"tiny": {"output": true}}}', "not True"),
        ('{"models": {"tiny": {"output": NaN}}}', "not nan"),
    ],
)
def test_a_price_file_that_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "prices.json").write_text(text)
    with pytest.raises(LedgerError, match=says) as e:
        Ledger.open("off", prices=tmp_path / "prices.json")
    assert "prices.json" in str(e.value)


# ---- text -----------------------------------------------------------------------------------------------------------


def test_text_is_kept_where_it_is_turned_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(3)
    monkeypatch.setenv("DAMI_LEDGER_TEXT", "1")
    on = Ledger.open(tmp_path / "on.sqlite")
    off = Ledger.open(tmp_path / "off.sqlite", keep_text=False)
    monkeypatch.setenv("DAMI_LEDGER_TEXT", "perhaps")
    with pytest.raises(LedgerError, match="is not a yes or no value"):
        Ledger.open(tmp_path / "x.sqlite")
    for ledger in (on, off):
        ledger.record(record)
    (row,), (empty,) = on.rows(), off.rows()
    assert [getattr(empty, name) for name in TEXTS] == [None] * 3
    assert row.reasoning_text == "SECRET THOUGHT"
    assert row.answer_text is not None
    assert row.answer_text.startswith("SECRET ANSWER\n<tool_call>\n{")
    assert "SECRET CALL" in row.answer_text
    assert row.prompt_text is not None
    kept = step_of(row.prompt_text)
    assert (kept.messages, kept.tools, kept.tool_choice) == (
        record.step.messages,
        record.step.tools,
        record.step.tool_choice,
    )


def test_long_text_is_kept_whole_and_a_failed_call_keeps_its_prompt() -> None:
    ledger = Ledger.open(":memory:", keep_text=True)
    record = make_record(3, error="E: x")
    step = dataclasses.replace(record.step, messages=(Message(role="user", content="ä\0\ud800" * 5000),))
    ledger.record(dataclasses.replace(record, step=step))
    (row,) = ledger.rows()
    assert row.prompt_text is not None
    assert len(step_of(row.prompt_text).messages[0].content) >= 15_000
    assert (row.reasoning_text, row.answer_text) == (None, None)


def test_redaction_sees_all_text(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path, keep_text=True, redact=lambda text: re.sub("SECRET", "[gone]", text))
    metadata = {"key": "SECRET", "deep": [{"x": "y" * 1998 + "SECRET"}], "n": 3}
    ledger.record(make_record(4, metadata=metadata))
    ledger.record(make_record(4, metadata=metadata, error="OutputInvalid: it said SECRET ANSWER"))
    ledger.close()
    assert b"SECRET" not in path.read_bytes()
    first, second = Ledger.open(path).rows()
    assert first.metadata["key"] == "[gone]"
    assert first.metadata["n"] == 3
    assert second.error == "it said [gone] ANSWER"
    assert first.reasoning_text == "[gone] THOUGHT"
    assert step_of(first.prompt_text or "").messages[0] == Message(role="user", content="[gone] QUESTION")


def test_redaction_is_shown_every_text_that_is_kept(tmp_path: Path) -> None:
    """Only ids of calls and runs, and names of tools, nodes, models and rules, are kept without a look."""
    said: list[str] = []

    def redact(text: str) -> str:
        said.append(text)
        return text.replace("SECRET", "[gone]")

    parameters = {"type": "object", "properties": {"q": {"description": "SECRET FIELD", "enum": ["SECRET VALUE"]}}}
    tool = Tool(name="search", description="SECRET TOOL", parameters=parameters)
    record = make_record(
        4,
        tags=("SECRET TAG",),
        metadata={"SECRET KEY": 1, "list": ["SECRET ITEM"]},
        thread_id="SECRET THREAD",
        run_name="SECRET RUN",
        root_run_name="SECRET ROOT",
    )
    decision = dataclasses.replace(
        record.decision, considered=("SECRET RULE",), reason="SECRET REASON", limits=Limits(stop=("SECRET STOP",))
    )
    step = dataclasses.replace(
        record.step, tools=(tool,), response_format=ResponseFormat(schema={"title": "SECRET SCHEMA"})
    )
    generation = dataclasses.replace(record.generation, stop_string="SECRET STOPPED")
    record = dataclasses.replace(record, decision=decision, step=step, generation=generation, error="E: SECRET ERROR")
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path, keep_text=True, redact=redact)
    with trace("SECRET TRACE"):
        ledger.record(record)
    (row,) = ledger.rows()
    ledger.close()
    assert b"SECRET" not in path.read_bytes()
    assert (row.tags, row.considered, row.reason) == (("[gone] TAG",), ("[gone] RULE",), "[gone] REASON")
    assert (row.names, row.thread_id) == (("[gone] TRACE", "[gone] ROOT", "[gone] RUN"), "[gone] THREAD")
    assert row.metadata == {"[gone] KEY": 1, "list": ["[gone] ITEM"]}
    (kept,) = step_of(row.prompt_text or "").tools
    assert (kept.name, kept.description) == ("search", "[gone] TOOL")
    assert {text for text in said if "SECRET" in text} >= {"SECRET FIELD", "SECRET VALUE", "SECRET SCHEMA"}


@pytest.mark.parametrize("hook", [lambda text: 1 / 0, lambda text: None])
def test_a_redaction_that_fails_leaks_nothing_and_breaks_nothing(hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger.open(":memory:", keep_text=True, redact=hook)
    ledger.record(make_record(4))
    (row,) = ledger.rows()
    assert row.reasoning_text == FAILED
    assert "SECRET" not in json.dumps(row.to_dict())
    assert len([r for r in caplog.records if "redaction hook failed" in r.message]) == 1


def test_arguments_that_json_cannot_hold_cost_the_text_but_not_the_row(caplog: pytest.LogCaptureFixture) -> None:
    ring: dict[str, Any] = {}
    ring["self"] = ring
    record = make_record(3)
    said = Message(role="assistant", tool_calls=(ToolCall(id="c", name="x", arguments=ring),))
    ledger = Ledger.open(":memory:", keep_text=True, redact=str.upper)
    ledger.record(dataclasses.replace(record, step=dataclasses.replace(record.step, messages=(said,))))
    (row,) = ledger.rows()
    assert [getattr(row, name) for name in TEXTS] == [None] * 3
    assert "cannot be kept" in caplog.text
