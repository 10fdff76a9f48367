"""kill -9 at any moment: no call whose `record` had returned is lost, nothing is corrupt."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from dami_agent.ledger import Ledger

ROOT = Path(__file__).parents[2]
KILLS = 200
AT_ONCE = 4

# Imports once, then forks a writer for each line "path seed" it reads, and says the writer's process id.
NURSERY = """
import os, signal, sys
from dami_agent.ledger import Ledger
from tests.ledger.records import make_record
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
records = [make_record(seed) for seed in range(40)]

def write(path, seed):
    ledger = Ledger.open(path)
    from dataclasses import replace
    for n in range(100_000):
        record = records[n % len(records)]
        call_id = f"{seed}-{n}"
        run_context = replace(record.step.run_context, call_id=call_id)
        ledger.record(replace(record, step=replace(record.step, run_context=run_context)))
        os.write(1, f"{call_id if ledger.waiting == 0 else 'waits'}\\n".encode())  # one write: never half a line

print("ready", flush=True)
for line in iter(sys.stdin.readline, ""):
    path, seed = line.split()
    child = os.fork()
    if child == 0:
        write(path, seed)
    os.write(1, f"pid {child}\\n".encode())
"""


class Nursery:
    """Writers of a ledger, and what they said was on record before they were killed."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", NURSERY], stdin=pipe, stdout=pipe, env=environment)
        self.said: list[str] = []
        self.pids: list[int] = []
        self._rest = b""
        self.wait_for(lambda: "ready" in self.said)

    def start(self, path: Path, seed: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{path} {seed}\n".encode())
        self.process.stdin.flush()

    def wait_for(self, condition: object, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < deadline
            self.listen(0.01)

    def listen(self, seconds: float) -> None:
        """Read what comes within so many seconds, so that no writer waits at a full pipe."""
        assert self.process.stdout is not None
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and select.select([self.process.stdout], [], [], left)[0]:
            self._rest += os.read(self.process.stdout.fileno(), 1 << 16)
            *lines, self._rest = self._rest.split(b"\n")
            self.said += [line.decode() for line in lines if not line.startswith(b"pid ")]
            self.pids += [int(line[4:]) for line in lines if line.startswith(b"pid ")]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.timeout(600)  # twenty seconds; leaves room for a busy machine
@pytest.mark.skipif(not hasattr(os, "fork"), reason="writers are forked")
def test_two_hundred_kills_lose_no_recorded_call_and_corrupt_nothing(tmp_path: Path) -> None:
    """Four writers at a time in one file, each killed at a moment of its own; a new file each tenth round, so that
    some are killed while they make the schema."""
    nursery = Nursery()
    claimed: dict[Path, set[str]] = defaultdict(set)
    killed = 0
    try:
        while killed < KILLS:
            path = tmp_path / f"ledger-{killed // (10 * AT_ONCE)}.sqlite"
            for n in range(AT_ONCE):
                nursery.start(path, killed + n)
            nursery.wait_for(lambda: len(nursery.pids) == AT_ONCE)
            if random.random() < 0.8:  # else they are killed while they open the ledger, or make its schema
                nursery.wait_for(lambda: len(nursery.said) >= AT_ONCE)
            for pid in random.sample(nursery.pids, AT_ONCE):
                nursery.listen(random.uniform(0, 0.03))
                os.kill(pid, signal.SIGKILL)
            killed += AT_ONCE
            nursery.pids.clear()
            nursery.listen(0.05)  # what the dead had still said
            claimed[path] |= set(nursery.said)
            nursery.said.clear()
    finally:
        nursery.close()
    assert killed == KILLS
    for path, calls in claimed.items():
        calls -= {"ready"}
        assert "waits" not in calls
        ledger = Ledger.open(path)
        assert calls <= {row.call_id for row in ledger.rows()}
        found = ledger.verify()
        assert found.whole, found.problems
    assert sum(map(len, claimed.values())) > KILLS  # they were killed while writing, not before
