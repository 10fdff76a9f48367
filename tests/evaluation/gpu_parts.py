"""Parts for the tests of how parts are run, in a module that a fresh process can import without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from dami_agent.evaluation.gpu_check.setting import PartSkipped, Setting


def passes(setting: Setting) -> Iterator[dict[str, Any]]:
    yield {"name": "first", "device": setting.device}
    yield {"name": "second"}


def fails(setting: Setting) -> Iterator[dict[str, Any]]:
    yield {"name": "first"}
    raise ZeroDivisionError("on purpose")


def skips(setting: Setting) -> Iterator[dict[str, Any]]:
    raise PartSkipped("not here")
    yield {}


def dies(setting: Setting) -> Iterator[dict[str, Any]]:
    yield {"name": "first"}
    time.sleep(0.2)  # until it is sent
    os._exit(7)


def hangs(setting: Setting) -> Iterator[dict[str, Any]]:
    """Start a process that outlives its parent if nobody ends it, and wait for it."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield {"child": child.pid}
    child.wait()
