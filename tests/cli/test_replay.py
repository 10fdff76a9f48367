"""`dami replay`: a recorded run decoded again, for real."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from langchain_core.messages import ToolMessage

from dami_agent import ChatDAMI
from dami_agent.cli.replay import again
from dami_agent.ledger import Ledger
from dami_agent.testing import FakeReply, FakeRequest, fake_chat_model
from dami_agent.types import Intensity
from tests.cli.conftest import Dami
from tests.ledger.records import make_record


def test_the_same_prompts_at_another_intensity(tmp_path: Path) -> None:
    """The engine that replays is asked what the recording one was asked: prompt, tools, seed and max_tokens."""

    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    script = [FakeReply(tool_calls=[("add", {"a": 3, "b": 4})], reasoning="why?"), FakeReply("It is 7.")]
    ledger = Ledger.open(tmp_path / "ledger.sqlite", keep_text=True)
    model = fake_chat_model(list(script), ledger=ledger, intensity=0.0, seed=random.randrange(10**6), max_tokens=90)
    tooled = model.bind_tools([add])
    first = tooled.invoke("3 + 4?")
    tooled.invoke([("user", "3 + 4?"), first, ToolMessage("7", tool_call_id=first.tool_calls[0]["id"])])
    rows = ledger.rows()
    asked: list[FakeRequest] = []

    def reply(request: FakeRequest) -> FakeReply:
        asked.append(request)
        return FakeReply("7", reasoning="three and four")

    other = fake_chat_model(reply, ledger="off")
    done = again(rows, other.pipeline(), Intensity(0.0), concurrency=1)
    assert [r.prompt.token_ids for r in asked] == [r.prompt.token_ids for r in model.engine.requests]
    assert [r.decision.sampling.seed for r in asked] == [r.decision.sampling.seed for r in model.engine.requests]
    assert [r.decision.limits.max_tokens for r in asked] == [90, 90]
    assert [call.recorded_tokens for call in done] == [row.output_tokens for row in rows]
    thinking = again(rows, other.pipeline(), Intensity(1.0))
    assert {float(r.decision.intensity) for r in asked[2:]} == {1.0}
    assert all(call.replayed_reasoning_tokens > 0 for call in thinking)
    assert [call.call_id for call in thinking] == [row.call_id for row in rows]
    failing = fake_chat_model(lambda _: FakeReply("7"), ledger="off")
    failing.engine.close()
    assert {call.error for call in again(rows, failing.pipeline(), Intensity(1.0))} == {"EngineClosed"}


def test_a_real_run_decoded_again(dami: Dami, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAMI_LEDGER_TEXT", "1")
    ChatDAMI(reasoning_intensity=0.0, max_tokens=60, seed=3).invoke("Start with 7. Add 5. What is the result?")
    monkeypatch.delenv("DAMI_LEDGER_TEXT")
    (row,) = dami("logs", "--json").json
    same = dami("replay", row["call_id"], "--as", "instruct", "--json").json
    assert same["replayed_tokens"] == same["recorded_tokens"] == row["output_tokens"]  # the same λ and seed
    more = dami("replay", row["call_id"][:8], "--json").json
    assert more["calls"][0]["replayed_reasoning_tokens"] > 0
    assert more["saved_tokens"] == more["replayed_tokens"] - row["output_tokens"]
    assert more["baseline"] == "λ=1 on every call"
    assert "measured" in more["method"]
    assert len(dami("logs", "--json").json) == 1  # a replay is no call of the user's


def test_the_last_run_needs_no_id(dami: Dami, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAMI_LEDGER_TEXT", "1")
    model = ChatDAMI(reasoning_intensity=0.0, max_tokens=60, seed=3)
    model.invoke("What is 3 plus 4?")
    model.invoke("Start with 7. Add 5. What is the result?")
    last = dami("logs", "--json").json[-1]
    again = dami("replay", "last", "--as", "instruct", "--json").json
    assert [call["call_id"] for call in again["calls"]] == [last["call_id"]]
    assert again["replayed_tokens"] == last["output_tokens"]
    assert dami("replay", "--as", "instruct", "--json").json == again


def test_a_redacted_prompt_is_not_the_one_that_ran(dami: Dami, ledger_file: Path) -> None:
    ledger = Ledger.open(keep_text=True, redact=lambda text: text.replace("Start with 7.", "[gone]"))
    model = ChatDAMI(reasoning_intensity=0.0, max_tokens=9, ledger=ledger)
    model.invoke("Start with 7. Add 5. What is the result?")
    model.invoke("What is 3 plus 4?")  # nothing of it is redacted
    ledger.close()
    redacted, plain = (row["call_id"] for row in dami("logs", "--json").json)
    ended = dami("replay", redacted)
    assert ended.status == 2
    assert "not the prompt that was sent" in ended.err
    assert dami("replay", plain, "--as", "instruct", "--json").json["failed"] == 0


def test_what_cannot_be_replayed(dami: Dami, ledger_file: Path) -> None:
    assert dami("replay", "nothing").status == 2
    assert dami("replay", "nothing", "--as", "deeply").status == 2
    for keep_text in (True, False):
        ledger = Ledger.open(keep_text=keep_text)
        ledger.record(make_record(int(keep_text), run_id="c1", root_run_id="run-1"))
        ledger.close()
    ended = dami("replay", "run-1")
    assert ended.status == 2
    assert "1 of the 2 calls of run run-1 have no text on record" in ended.err
    assert "DAMI_LEDGER_TEXT=1" in ended.err
    ledger = Ledger.open(keep_text=True)
    ledger.record(make_record(7, run_id="c2", root_run_id="run-2"))
    ledger.close()
    assert "2 runs begin with run" in dami("replay", "run-").err


@pytest.mark.parametrize("text", ["9" * 5_000, "[" * 5_000, "{", '{"user": {}}', "0", "", '"a', "[]", "null"])
def test_a_damaged_text_ends_in_an_error_that_says_so(dami: Dami, ledger_file: Path, text: str) -> None:
    ledger = Ledger.open(ledger_file, keep_text=True)
    ledger.record(make_record(1))
    ledger.close()
    with sqlite3.connect(ledger_file) as connection:
        connection.execute("update calls set prompt_text = ?", [text])
    connection.close()
    ended = dami("replay", "last")
    assert ended.status != 0
    assert "on record cannot be read" in ended.err
    assert "--verify" in ended.err


def test_a_λ_per_module_is_decoded_again_in_merged_weights(dami: Dami, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAMI_LEDGER_TEXT", "1")
    modules = "ffn[0-1]=0.9,other=0.4"
    model = ChatDAMI(reasoning_intensity=modules, weights_mode="merged", max_tokens=40, seed=3)
    model.invoke("Start with 7. Add 5. What is the result?")
    monkeypatch.delenv("DAMI_LEDGER_TEXT")
    (row,) = dami("logs", "--json").json
    same = dami("replay", row["call_id"], "--as", "other=.4,ffn[0-1]=.9", "--json").json
    assert same["replayed_tokens"] == same["recorded_tokens"] == row["output_tokens"]
    assert same["baseline"] == f"λ={modules} on every call"
    assert same["calls"][0]["intensity_modules"] == modules
    assert dami("replay", row["call_id"], "--as", "ffn=.9").status == 2
    assert modules in dami("replay", row["call_id"], "--as", "0.9").out
