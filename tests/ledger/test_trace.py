"""Traces: what the calls of a block did, and of that block only."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dami_agent
from dami_agent.ledger import CallRow, Ledger, Price, Prices, RunTrace, by_tool, runs, totals
from dami_agent.ledger.summary import TOKENS
from tests.chance import SEED
from tests.ledger.records import make_record
from tests.ledger.test_columns import decided


def record(ledger: Ledger, seed: int, **trace: Any) -> str:
    made = make_record(seed, **trace)
    ledger.record(made)
    return made.step.run_context.call_id


def ids(trace: RunTrace) -> list[str]:
    return [row.call_id for row in trace.steps]


@pytest.mark.parametrize("location", ["off", ":memory:"])
def test_a_trace_sees_the_calls_of_its_block(location: str) -> None:
    ledger = Ledger.open(location)
    record(ledger, 0)
    with dami_agent.trace("nightly") as outer:
        first = record(ledger, 1)
        with dami_agent.trace() as inner:
            second = record(ledger, 2)
        third = record(ledger, 3, node="model")
    record(ledger, 4)
    assert ids(outer) == [first, second, third]
    assert ids(inner) == [second]
    assert [row.id for row in outer.steps] == [1, 2, 3]
    assert outer.steps[2].node == "model"
    assert outer.steps[0].reason == make_record(1).decision.reason  # type: ignore[union-attr]
    assert repr(outer).startswith("RunTrace('nightly', 3 calls, ")
    assert outer.totals["output_tokens"] == sum(make_record(n).output_tokens for n in (1, 2, 3))


def test_an_error_leaves_the_trace_readable_and_closed() -> None:
    ledger = Ledger.disabled()
    t = dami_agent.trace()

    def fail() -> None:
        with t:
            record(ledger, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    record(ledger, 2)
    assert len(t) == len(t.steps) == 1


def test_threads_have_traces_of_their_own() -> None:
    """A bare thread begins with no trace; one that runs a copy of the context is part of it."""
    ledger, found = Ledger.disabled(), {}

    def work(n: int) -> None:
        with dami_agent.trace(str(n)) as own:
            for seed in range(n * 10, n * 10 + 5):
                record(ledger, seed)
        found[n] = ids(own)

    with dami_agent.trace() as outer:
        context = [contextvars.Context() for _ in range(2)] + [contextvars.copy_context() for _ in range(2)]
        threads = [threading.Thread(target=c.run, args=(work, n)) for n, c in enumerate(context)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for n in range(4):
        assert found[n] == [make_record(seed).step.run_context.call_id for seed in range(n * 10, n * 10 + 5)]
    assert Counter(ids(outer)) == Counter(found[2] + found[3])


async def test_asyncio_tasks_do_not_see_each_other() -> None:
    ledger = Ledger.disabled()

    async def work(n: int) -> tuple[int, list[str]]:
        with dami_agent.trace() as own:
            for seed in (n, n + 100):
                await asyncio.sleep(random.uniform(0, 0.01))
                record(ledger, seed)
        return n, ids(own)

    with dami_agent.trace() as outer:
        found = await asyncio.gather(*map(work, range(6)))
    for n, own in found:
        assert own == [make_record(seed).step.run_context.call_id for seed in (n, n + 100)]
    assert len(outer) == 12


def test_left_in_another_context_than_entered() -> None:
    t = dami_agent.trace()
    contextvars.copy_context().run(t.__enter__)
    record(Ledger.disabled(), 1)
    t.__exit__(None, None, None)
    assert len(t) == 0


def test_totals_by_tool_and_by_run_add_up() -> None:
    rng = random.Random(SEED)
    ledger = Ledger(None, prices=Prices(models={"*": Price(output=5.0)}, currency="EUR"))
    with dami_agent.trace() as t:
        for _ in range(30):
            made = make_record(
                rng.randrange(10**6),
                error=rng.choice([None, None, "E: x"]),
                run_id=rng.choice("abc"),
                root_run_id=rng.choice([None, "root"]),
            )
            ledger.record(decided(made, charged_to=rng.choice(["search", "add", "answer"])))
    for parts in (list(t.by_tool().values()), [run.totals for run in runs(t.steps)]):
        for name in (*TOKENS, "calls", "failed", "cached_tokens", "reread_tokens"):
            assert sum(part[name] for part in parts) == t.totals[name], name
        assert sum(part["cost"].get("EUR", 0) for part in parts) == pytest.approx(t.totals["cost"]["EUR"])
    assert len(t.steps) == len(t)
    assert set(t.by_tool()) >= {"search", "add"}
    assert {run.id for run in runs(t.steps)} == {row.root_run_id or row.run_id for row in t.steps}
    for tool, sums in t.by_tool().items():
        rows = [row for row in t.steps if row.charged_to == tool]
        assert sums == totals(rows) == by_tool(rows)[tool]
    for run in runs(t.steps):
        assert {row.root_run_id or row.run_id for row in run.rows} == {run.id}
        used = [row.intensity for row in run.rows if row.intensity is not None]
        assert run.intensities == (min(used), max(used))


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    with dami_agent.trace() as t:
        for seed in range(5):
            record(Ledger.disabled(), seed)
    frame = t.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == list(CallRow.__dataclass_fields__)
    assert list(frame["output_tokens"]) == [row.output_tokens for row in t.steps]
    assert list(dami_agent.trace().to_pandas().columns) == list(CallRow.__dataclass_fields__)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@given(st.text(max_size=20) | st.sampled_from(["<script>alert(1)</script>", '"><img src=x onerror=y>', "</svg>&amp;"]))
@settings(max_examples=30, deadline=None)
def test_the_notebook_view_escapes_all_text(text: str) -> None:
    ledger = Ledger.disabled()
    with dami_agent.trace(text) as t:
        ledger.record(decided(make_record(1, node=text), reason=text))
        ledger.record(make_record(2, error=f"{text}: x"))
    page = Tags()
    page.feed(t._repr_html_())
    allowed = {"div", "p", "b", "svg", "g", "title", "text", "rect", "small", "table", "thead", "tbody"}
    assert set(page.tags) <= allowed | {"tr", "th", "td"}
    assert (page.tags["rect"], page.tags["tr"], page.tags["g"]) == (6, 3, 2)


def test_the_notebook_view_of_nothing_and_of_much() -> None:
    t = dami_agent.trace()
    assert "0 calls" in t._repr_html_()
    with t:
        for seed in range(230):
            record(Ledger.disabled(), seed)
    page = Tags()
    page.feed(t._repr_html_())
    assert page.tags["g"] == 200
    assert "30 earlier steps are not shown" in " ".join(page.text)


def test_an_agent_inside_a_trace(tmp_path: Path) -> None:
    from langchain.agents import create_agent

    from dami_agent.testing import FakeReply, fake_chat_model

    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    script = [FakeReply(tool_calls=[("add", {"a": 3, "b": 4})]), FakeReply("It is 7.", reasoning="3 + 4")] * 3
    model = fake_chat_model(script, ledger=Ledger.open(tmp_path / "ledger.sqlite"))
    agent = create_agent(model, [add])
    asked = {"messages": [("user", "3 + 4?")]}
    agent.invoke(asked)
    with dami_agent.trace("one") as t:
        agent.invoke(asked)
    with dami_agent.trace("async") as later:
        asyncio.run(agent.ainvoke(asked))
    rows = model.ledger.rows()
    assert len(rows) == 6
    assert ids(t) == [row.call_id for row in rows[2:4]]
    assert ids(later) == [row.call_id for row in rows[4:]]
    assert [row.tools_called for row in t.steps] == [("add",), ()]
    assert t.steps[1].tools_digested == ("add",)
