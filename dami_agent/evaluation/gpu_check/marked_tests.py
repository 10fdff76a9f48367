"""Run the tests that need a GPU, with pytest where it is installed, and report each as it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dami_agent.evaluation.gpu_check.setting import PartFailed, PartSkipped, Setting

FILES = ("tests/weights/test_gpu.py", "tests/runtime/test_gpu.py")

# Not pyproject.toml's: it names plugins that a bare machine lacks, and turns every warning into an error.
_INI = """[pytest]
addopts = -q --import-mode=importlib -p dami_agent.evaluation.gpu_check.pytest_reports
pythonpath = {repository}
markers =
    gpu: needs a CUDA device
    timeout: of pytest-timeout, where it is installed
"""


def run(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the outcome, the seconds and the output of every test that is marked ``gpu``.

    Raises:
        PartSkipped: no CUDA device, no pytest, or no tests beside the package.
        PartFailed: a test failed.
    """
    if setting.device == "cpu":
        raise PartSkipped("the tests marked gpu need a CUDA device")
    absent = [name for name in FILES if not (setting.repository / name).is_file()]
    if absent:
        raise PartSkipped(f"no {', '.join(absent)} in {setting.repository}", hint="run it in a checkout")
    setting.pair(setting.large)
    yield from run_files(setting, FILES, DAMI_GPU_PAIR=str(setting.scratch / setting.large))


def run_files(setting: Setting, files: Sequence[str | Path], **environment: str) -> Iterator[dict[str, Any]]:
    """Run files of tests; yields and raises as :func:`run` says.

    Args:
        setting: where.
        files: of tests, relative to the repository or absolute.
        environment: for them.
    """
    if find_spec("pytest") is None:
        raise PartSkipped("pytest is not installed", hint="pip install pytest")
    setting.scratch.mkdir(parents=True, exist_ok=True)
    ini, reports = setting.scratch / "pytest.ini", setting.scratch / "reports.jsonl"
    ini.write_text(_INI.format(repository=setting.repository), encoding="utf-8")
    reports.write_text("", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-c", str(ini), "--rootdir", str(setting.repository)]
    command += ["-p", "no:cacheprovider", "--basetemp", str(setting.scratch / "tests"), *map(str, files)]
    path = os.pathsep.join([str(setting.repository), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment |= {"DAMI_TEST_REPORTS": str(reports), "PYTHONPATH": path}
    outcomes: list[str] = []
    log = setting.scratch / "pytest.log"
    with log.open("w", encoding="utf-8") as output, reports.open(encoding="utf-8") as lines:
        process = subprocess.Popen(
            command, cwd=setting.repository, stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment
        )
        running, rest = True, ""
        while running:
            running = process.poll() is None  # before reading, so that nothing is left unread at the end
            *whole, rest = (rest + lines.read()).split("\n")
            for line in whole:
                row = json.loads(line)
                outcomes.append(row["outcome"])
                yield row
            time.sleep(0.1)
    if "failed" in outcomes or process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise PartFailed(f"{outcomes.count('failed')} of {len(outcomes)} tests failed (pytest's end follows)\n{tail}")
    if "passed" not in outcomes:
        raise PartSkipped("every test was skipped; its row says why")
