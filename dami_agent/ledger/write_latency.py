"""Measure the latency of writing one ledger row on the user's disk."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import URL

from dami_agent.ledger.columns import values_of
from dami_agent.ledger.database import file_of
from dami_agent.ledger.store import Store
from dami_agent.types import (
    CallRecord,
    Decision,
    Estimate,
    Generation,
    Intensity,
    Limits,
    Message,
    Reply,
    RunContext,
    Sampling,
    Step,
    TokenEvent,
    Tool,
    ToolCall,
)


def write_cost(store: Store | None, rows: int) -> dict[str, float]:
    """Measure median, p95 and p99 in µs of making and committing a row, beside the store's file or in a new folder."""
    file = None if store is None else file_of(store.url)
    parent = file.parent if file is not None and file.parent.is_dir() else None
    times = []
    with TemporaryDirectory(dir=parent, prefix="dami-write-cost-") as folder:
        own = Store(URL.create("sqlite", database=str(Path(folder) / "ledger.sqlite")), backlog=rows + 1)
        for n in range(rows + 1):
            record = _typical(n)
            start = time.perf_counter()
            own.add(values_of(record))
            times.append(1e6 * (time.perf_counter() - start))
        own.close()
    cuts = statistics.quantiles(times[1:], n=100)  # the first also makes the file
    return {"median": statistics.median(times[1:]), "p95": cuts[94], "p99": cuts[98], "rows": float(rows)}


def _typical(n: int) -> CallRecord:
    """Make an agent's step: four messages, six tools, a thought of 150 tokens, an answer of 40."""
    call = ToolCall(id="call", name="search", arguments={"query": "price of a lamp"})
    said = (
        Message(role="user", content="How much is a lamp?"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", tool_call_id="call", content="12"),
    )
    tools = tuple(Tool(name=f"tool_{i}", description="", parameters={"type": "object"}) for i in range(6))
    metadata = {"langgraph_node": "model", "langgraph_step": n, "thread_id": "thread", "ls_provider": "dami"}
    run_context = RunContext(
        call_id=f"{n:032x}", run_id="run", root_run_id="root", node="model", step=n, metadata=metadata
    )
    events = tuple(TokenEvent(token_id=i, part="reasoning" if i < 150 else "answer") for i in range(190))
    sampling = Sampling(temperature=0.6, top_p=0.95, top_k=20, seed=n)
    estimate = Estimate(estimator="confidence", intensity=Intensity(0.43), features={"surprise": 0.31, "entropy": 1.2})
    decision = Decision(
        intensity=Intensity(0.5),
        template="thinking",
        reason="confidence estimate 0.50, snapped from 0.43",
        sampling=sampling,
        limits=Limits(max_tokens=512),
        estimate=estimate,
        considered=("nodes.plan: the node is model", "tools.search: bounds leave it"),
        charged_to="search",
    )
    return CallRecord(
        step=Step(messages=said, tools=tools, run_context=run_context),
        decision=decision,
        generation=Generation(
            events=events, finish_reason="stop", intensity=Intensity(0.5), sampling=sampling, prompt_tokens=300
        ),
        reply=Reply(content="A lamp is 12.", reasoning="The result says 12."),
        model="typical",
        started_at=time.time(),
        seconds=1.0,
    )
