"""What keeping calls on record costs, beside the very calls that were kept: one run, one machine, one disk.

Agents solve tasks one at a time, so that no call waits for another and each is as short as it can be: what writing adds
is then at its largest. A write is all of ``Ledger.record``, from the record to the committed row.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from dami_agent.errors import UsageError
from dami_agent.evaluation import agents
from dami_agent.ledger import Ledger, default_location
from dami_agent.ledger.database import file_of
from dami_agent.ledger.location import resolve
from dami_agent.tasks import agent_tasks
from dami_agent.types import CallRecord

TASKS = 12
"""Agent tasks solved for it: some forty calls."""

MOST_MS, MOST_SHARE = 1.0, 0.01
"""The criterion: milliseconds of a write, and its share of a call, both at the median."""


class TimedLedger(Ledger):
    """Keep the time of each write and of the call it is about, in seconds."""

    def __init__(self, file: Path) -> None:
        super().__init__(resolve(file))
        self.writes: list[float] = []
        self.calls: list[float] = []

    def record(self, record: CallRecord) -> None:
        """Write ``record``, timed."""
        start = time.perf_counter()
        super().record(record)
        self.writes.append(time.perf_counter() - start)
        self.calls.append(record.seconds)


def measure(*, tasks: int = TASKS, seed: int = 0, model: dict[str, Any] | None = None) -> dict[str, Any]:
    """Solve ``tasks`` agent tasks with DAMI, calls kept in a new ledger beside the user's own, where that is a file.

    Args:
        tasks: how many, of the test split.
        seed: of tasks and random streams.
        model: further arguments of ChatDAMI, such as the pair.

    Returns:
        See :func:`summary`.
    """
    with TemporaryDirectory(dir=_disk(), prefix="dami-overhead-") as folder:
        ledger = TimedLedger(Path(folder) / "ledger.sqlite")
        agents.run_mode(
            agent_tasks("test", tasks, seed=seed), agents.DAMI, seed=seed, concurrency=1, ledger=ledger, model=model
        )
        ledger.close()
    return summary(ledger.writes[1:], ledger.calls[1:])  # the first write also makes the file


def summary(writes: Sequence[float], calls: Sequence[float]) -> dict[str, Any]:
    """Sum up what a write costs: at the median in milliseconds, and at the median of its share of its own call.

    Args:
        writes: seconds of each write.
        calls: seconds of the call it is about, in the same order.

    Raises:
        UsageError: there is nothing to sum up.
    """
    if not writes or len(writes) != len(calls):
        raise UsageError("no calls to measure writing beside", hint="measure more tasks")
    cost = 1e3 * median(writes)
    share = median(write / call for write, call in zip(writes, calls, strict=True))
    return {
        "calls": len(calls),
        "write_ms": round(cost, 4),
        "call_ms": round(1e3 * median(calls), 4),
        "share_of_a_call": round(share, 6),
        "share_of_all": round(sum(writes) / sum(calls), 6),
        "within": cost <= MOST_MS and share <= MOST_SHARE,
    }


def line(found: dict[str, Any]) -> str:
    """Format what :func:`summary` returned as a sentence."""
    verdict = "yes" if found["within"] else "NO"
    return (
        f"ledger: a row costs {found['write_ms']:.2f} ms, {found['share_of_a_call']:.2%} of its call (medians of "
        f"{found['calls']} calls made one at a time, {found['call_ms']:.0f} ms each); "
        f"at most {MOST_MS:g} ms and {MOST_SHARE:.0%}: {verdict}"
    )


def _disk() -> Path | None:
    """Return the folder of the user's ledger, where it is a file in a folder that exists."""
    url = resolve(default_location())
    file = None if url is None else file_of(url)
    return file.parent if file is not None and file.parent.is_dir() else None
