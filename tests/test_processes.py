"""Processes of training and of measurements end with the one that started them."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

TRAINING = """
import os, sys, time
from functools import partial
from pathlib import Path
from builtin_pair.training import parallel

def work(folder, group):
    (folder / f"{group.rank}.pid").write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    parallel.launch(2, folder / "rendezvous", partial(work, folder))
"""


MEASURING = """
import os, sys, time
from dataclasses import dataclass
from pathlib import Path
from dami_agent.evaluation.call_batches import BatchRunner, PairSource

@dataclass
class Batch:
    folder: Path
    rank: int
    name: str = "sleeping"
    size: int = 1

    def run(self, room, done):
        (self.folder / f"{self.rank}.pid").write_text(str(os.getpid()))
        time.sleep(600)

if __name__ == "__main__":
    with BatchRunner(PairSource(), workers=2) as runner:
        runner.run([Batch(Path(sys.argv[1]), rank) for rank in (0, 1)])
"""


@pytest.mark.parametrize("text", [TRAINING, MEASURING], ids=["training", "measuring"])
def test_a_killed_parent_leaves_no_process_behind(tmp_path, text):
    script = tmp_path / "script.py"
    script.write_text(text)
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    try:
        pids = [_pid(tmp_path / f"{rank}.pid") for rank in (0, 1)]
        assert all(psutil.pid_exists(pid) for pid in pids)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def _pid(path):
    deadline = time.monotonic() + 120
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, "the process did not start"
        time.sleep(0.1)
    return int(path.read_text())
