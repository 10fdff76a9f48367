"""Run ``python -m dami_agent.evaluation.gpu_check``: parts in turn, one JSON file, an exit status."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dami_agent.errors import DamiError, UsageError
from dami_agent.evaluation.gpu_check.isolation import run_apart
from dami_agent.evaluation.gpu_check.machine import commit_of, look, missing
from dami_agent.evaluation.gpu_check.parts import PARTS, Part
from dami_agent.evaluation.gpu_check.record import GOOD, RUNNING, Record
from dami_agent.evaluation.gpu_check.setting import BYTES, Setting

_LEAST = 15.0
"""Seconds that must be left for a part to begin."""
_LOOK = 90.0
"""Seconds that importing torch and asking for the device may take."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for; returns 0 if all that are recorded passed or were skipped, 1 if not, 2 if misused."""
    given = _parser().parse_args(arguments)
    end = time.monotonic() + 60 * given.minutes
    try:
        return _run(given, end)
    except DamiError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 2


def _run(given: argparse.Namespace, end: float) -> int:
    if lacking := missing():
        raise UsageError(f"this Python lacks {', '.join(lacking)}", hint=f"{sys.executable} -m pip install …")
    names = _names(given.parts)
    setting = _setting(given)
    asked = {"device": given.device, "shape": setting.shape, "large": setting.large}
    record = Record.open(given.output, asked)
    again = set(_names(given.again)) if given.again else set()
    ahead = [name for name in names if name in again or not record.has(name)]
    for name in names:
        if name not in ahead:
            print(f"{name}: {record.parts[name]['status']} before; --again {name} repeats it")
    on = _machine(setting, given.commit) if ahead else {}
    for name in ahead:
        left = end - time.monotonic()
        if left < _LEAST:
            print(f"{name}: not begun, {given.minutes:g} minutes are over; the same command goes on from here")
            continue
        _run_part(name, PARTS[name], setting, record, on, left)
    done = all(record.has(name) for name in PARTS)
    if done and not given.scratch:
        shutil.rmtree(setting.scratch, ignore_errors=True)
    print(f"{record.path}: " + ", ".join(f"{name} {part['status']}" for name, part in record.parts.items()))
    return 0 if all(record.has(name) and record.parts[name]["status"] in GOOD for name in names) else 1


def _run_part(name: str, part: Part, setting: Setting, record: Record, on: dict[str, Any], left: float) -> None:
    """Run one part, and keep its rows as they come."""
    print(f"{name}: {part.what} …", flush=True)
    rows: list[dict[str, Any]] = []
    found = {"status": RUNNING, **on, "began": datetime.now(timezone.utc).isoformat(timespec="seconds"), "rows": rows}
    record.put(name, found)

    def take(row: dict[str, Any]) -> None:
        rows.append(row)
        record.put(name, found)
        print(f"  {_shown(row)}", flush=True)

    limit = left if setting.rehearsal else min(part.seconds, left)  # a CPU may be busy
    ended = run_apart(part.run, setting, limit, take)
    found |= {"status": ended.status, "seconds": ended.seconds, "error": ended.error}
    record.put(name, found)
    said = [line for line in (ended.error or "").splitlines() if line.strip() and not line.startswith("  hint:")]
    why = f": {said[-1 if ended.status == 'failed' else 0]}" if said else ""
    print(f"{name}: {ended.status} in {ended.seconds:.0f} s{why}", flush=True)


def _machine(setting: Setting, commit: str | None) -> dict[str, Any]:
    """Look at the device, in a process of its own, and at the commit."""
    found: list[dict[str, Any]] = []
    ended = run_apart(look, setting, _LOOK, found.append)
    if not found:
        raise UsageError(f"the machine cannot be looked at: {ended.error}")
    print(", ".join(f"{name} {value}" for name, value in found[0].items()), flush=True)
    return found[0] | {"commit": commit or commit_of(setting.repository)}


def _shown(row: dict[str, Any]) -> str:
    """Write a row in a line: its numbers, and its short texts."""
    fields = []
    for key, value in row.items():
        if key == "note":
            continue
        if isinstance(value, float):
            fields.append(f"{key} {value:.4g}")
        elif isinstance(value, int) or (isinstance(value, str) and 0 < len(value) < 80 and "\n" not in value):
            fields.append(f"{key} {value}" if key != "name" else str(value))
    return ", ".join(fields)


def _setting(given: argparse.Namespace) -> Setting:
    shape = given.shape or "0.6b"
    large = given.shape or "4b"
    own = os.getuid() if hasattr(os, "getuid") else "user"
    scratch = given.scratch or Path(tempfile.gettempdir()) / f"dami-gpu-check-{own}"
    return Setting(
        device=given.device,
        shape=shape,
        large=large,
        scratch=scratch.absolute(),
        repository=Path(__file__).absolute().parents[3],
    )


def _names(asked: str | None) -> list[str]:
    """Return the parts named, in the order in which they run; all where none is."""
    wanted = [name.strip() for name in asked.split(",")] if asked else list(PARTS)
    if unknown := [name for name in wanted if name not in PARTS]:
        raise UsageError(f"there is no part {', '.join(map(repr, unknown))}", hint=f"some of {', '.join(PARTS)}")
    return [name for name in PARTS if name in wanted]


def _parser() -> argparse.ArgumentParser:
    parts = "; ".join(f"{name}: {part.what}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m dami_agent.evaluation.gpu_check",
        description="Check and measure the engine on a GPU, part by part; what is in the file already is not repeated.",
        epilog=f"Parts, in this order: {parts}.",
    )
    parser.add_argument("--output", type=Path, default=Path("gpu-check.json"), help="file of the results")
    parser.add_argument("--parts", help="names, separated by commas, of the parts to run; all if left out")
    parser.add_argument("--again", help="names of parts to repeat though the file has them")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses, with tiny workloads")
    parser.add_argument("--shape", choices=tuple(BYTES), help="of all pairs; if left out 0.6b, and 4b where it counts")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no part begins or goes on")
    parser.add_argument("--scratch", type=Path, help="folder for pairs (24 GB for 4b), kept; else a temporary one")
    parser.add_argument("--commit", help="to record, where the files are not in git")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a part does not outlive the command
    sys.exit(main())
