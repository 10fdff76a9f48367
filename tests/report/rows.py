"""Random ledger rows of agents that are plausible to look at; quick enough for 100,000 of them."""

from __future__ import annotations

import dataclasses
import random
from datetime import datetime, timedelta, timezone
from typing import Any

from dami_agent.ledger import CallRow

FIRST = datetime(2026, 3, 2, 9, 0, tzinfo=timezone.utc)
TOOLS = ("search", "add", "read_file", "weather")
_NONE: dict[str, Any] = {f.name: None for f in dataclasses.fields(CallRow)}


def make_row(**values: Any) -> CallRow:
    """A row with what is given; the rest empty."""
    lists = ("tags", "tools_bound", "tools_digested", "tools_called", "considered", "trace_names")
    empty: dict[str, Any] = dict.fromkeys(lists, ())
    empty |= {name: {} for name in ("metadata", "features", "sampling", "limits")}
    empty |= dict.fromkeys(
        ("id", "attempt", "messages", "invalid_tool_calls", "prompt_tokens", "probe_tokens", "scored_tokens"), 0
    )
    empty |= dict.fromkeys(("reasoning_tokens", "answer_tokens", "output_tokens", "cached_tokens"), 0)
    empty |= {"call_id": "call", "model": "tiny", "version": "0", "started_at": FIRST, "seconds": 0.0}
    return CallRow(**{**_NONE, **empty, **values})


def make_rows(count: int, seed: int) -> list[CallRow]:
    """``count`` rows of agent runs of one to nine steps, oldest first; one in fifty failed."""
    rng = random.Random(seed)
    rows: list[CallRow] = []
    at = FIRST
    while len(rows) < count:
        run, digested = f"{rng.getrandbits(64):016x}", ()
        for step in range(min(rng.randint(1, 9), count - len(rows))):
            row = _step(rng, run, step, at, digested)
            digested, at = row.tools_called, at + timedelta(seconds=row.seconds + rng.random() * 0.2)
            rows.append(row)
        at += timedelta(seconds=rng.random() * 600)
    return rows


def many_rows(count: int, seed: int) -> list[CallRow]:
    """As :func:`make_rows`, but what is random repeats every 2,000 rows, ids and times apart."""
    some = make_rows(2_000, seed)
    length = some[-1].started_at - FIRST + timedelta(minutes=1)
    rows = []
    for copy in range(-(-count // len(some))):
        for row in some[: count - len(rows)]:
            ids = {"call_id": f"{row.call_id}-{copy}", "root_run_id": f"{row.root_run_id}-{copy}"}
            rows.append(dataclasses.replace(row, **ids, started_at=row.started_at + copy * length))
    return rows


def _step(rng: random.Random, run: str, step: int, at: datetime, digested: tuple[str, ...]) -> CallRow:
    bad = rng.random() < 0.02
    intensity = None if bad and rng.random() < 0.5 else rng.choice([0.0, 0.0, 0.0, 0.3, 0.5, 0.6, 0.8, 1.0])
    deep = intensity or 0.0
    thought = int(deep * rng.randint(20, 160))
    answer = 0 if bad else rng.randint(5, 60)
    probe, discarded = rng.choice([0, 0, 8]), rng.choice([0, 0, 0, None, 1])
    decode = (thought + answer) * 0.012
    wait = rng.random() * 0.2
    return make_row(
        id=step,
        call_id=f"{rng.getrandbits(128):032x}",
        run_id=f"{rng.getrandbits(64):016x}",
        root_run_id=run,
        thread_id=rng.choice([None, "thread-7"]),
        node=rng.choice(["agent", "agent", "planner", "critic"]),
        step=step * 2 + 1,
        messages=step * 2 + 2,
        charged_to=digested[0] if digested else "answer",
        cached_tokens=90 * step,
        metadata={"tenant": rng.choice(["acme", "initech"])},
        tools_bound=TOOLS,
        tools_digested=digested,
        tools_called=() if bad else tuple(rng.sample(TOOLS, rng.choice([0, 1, 1, 2]))),
        asked="auto",
        asked_by="default",
        intensity_estimated=intensity,
        intensity=intensity,
        template="thinking",
        reason=None if intensity is None else f"estimated {deep + rng.random() * 0.05:.2f}, snapped to {deep}",
        policy="default",
        considered=("rule 'search': no search result is read",) if not digested else (),
        intensity_low=0.0,
        intensity_high=1.0,
        estimator="confidence",
        features={"surprise": rng.random(), "entropy": rng.random() * 3},
        prompt_tokens=180 + 90 * step + rng.randint(0, 40),
        probe_tokens=probe,
        reasoning_tokens=thought,
        answer_tokens=answer,
        discarded_tokens=discarded,
        output_tokens=probe + thought + answer + (discarded or 0),
        intensity_bounded=intensity,
        intensity_snapped=intensity,
        finish_reason=None if bad else rng.choice(["stop", "tool_calls"]),
        error_type="DeadlineExceeded" if bad else None,
        error="no answer within 2 s" if bad else None,
        model="dami-builtin",
        weights_mode="merged",
        sampling={"temperature": 0.7, "seed": rng.getrandbits(31)},
        limits={"max_tokens": 512},
        version="0.1.0",
        started_at=at,
        seconds=wait + decode,
        queue_seconds=wait / 4,
        prefill_seconds=wait / 2,
        first_token_seconds=wait,
        decode_seconds=decode,
    )
