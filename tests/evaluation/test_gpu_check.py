"""make gpu-check: the whole command on a CPU at tiny shapes, on a Python without most dependencies; and its pieces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dami_agent.errors import UsageError
from dami_agent.evaluation.gpu_check.__main__ import main
from dami_agent.evaluation.gpu_check.energy import metered
from dami_agent.evaluation.gpu_check.fixed_cache import FixedCache
from dami_agent.evaluation.gpu_check.isolation import run_apart
from dami_agent.evaluation.gpu_check.marked_tests import FILES, run_files
from dami_agent.evaluation.gpu_check.parts import PARTS
from dami_agent.evaluation.gpu_check.power import Meter, Readings, find_meter
from dami_agent.evaluation.gpu_check.record import RUNNING, Record
from dami_agent.evaluation.gpu_check.setting import PartFailed, Setting
from dami_agent.evaluation.speed.goals import GOALS
from dami_agent.weights import load_weights
from tests.evaluation import gpu_parts
from tests.pairs import write_pair

REPOSITORY = Path(__file__).parents[2]
ASKED = {"device": "cpu", "shape": "tiny", "large": "tiny"}

# What neither torch nor transformers nor accelerate brings, but threadpoolctl, which only a CPU is computed with.
BARE = """
import runpy, sys
absent = {"pydantic", "pydantic_core", "tenacity", "llguidance", "sqlalchemy", "langchain_core",
          "langchain", "langgraph", "httpx", "jsonschema", "platformdirs", "pytest"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
runpy.run_module("dami_agent.evaluation.gpu_check", run_name="__main__", alter_sys=True)
"""


def setting_in(folder: Path, device: str = "cpu") -> Setting:
    return Setting(device=device, shape="tiny", large="tiny", scratch=folder / "scratch", repository=REPOSITORY)


# --- the whole command ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_parts_on_a_bare_machine(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    command = [sys.executable, "-c", BARE, "--device", "cpu", "--shape", "tiny", "--output", str(output)]
    command += ["--scratch", str(tmp_path / "scratch"), "--commit", "abc", "--minutes", "4.5"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        path = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        return subprocess.run([*command, *more], capture_output=True, text=True, cwd=tmp_path, env=path)

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text(encoding="utf-8"))
    assert found["asked"] == ASKED
    parts = found["parts"]
    assert list(parts) == list(PARTS)
    skipped = {"tests", "energy", "speed-large"}
    assert {name: part["status"] for name, part in parts.items()} == {
        name: "skipped" if name in skipped else "passed" for name in PARTS
    }
    for name, part in parts.items():
        assert part["torch"] == torch.__version__
        assert part["commit"] == "abc"
        assert part["seconds"] >= 0
        assert bool(part["error"]) == (name in skipped)
    assert {row["name"] for row in parts["speed"]["rows"]} > set(GOALS)
    *correct, prefill = parts["shared"]["rows"]
    assert {(row["name"], row["mode"]) for row in correct} == {
        (name, mode) for name in ("exact_correct", "shared_correct") for mode in ("merged", "mixed")
    }
    assert max(row["rms"] for row in correct) < 1e-4 < min(row["rms_read_otherwise"] for row in correct)
    assert prefill["ratio"] == pytest.approx(prefill["reference"] / prefill["ours"])
    assert [row["rows"] for row in parts["compiled"]["rows"]] == [1, 8]
    for row in parts["compiled"]["rows"]:
        assert (row["graphs"], row["graph_breaks"]) == (1, 0), "one graph, for every λ"
        assert max(row["off"], row["off_after_switch"], row["off_at_end"]) < 1e-4

    before = output.read_text(encoding="utf-8")
    again = run()
    assert again.returncode == 0
    assert again.stdout.count(" before; --again ") == len(PARTS)
    assert output.read_text(encoding="utf-8") == before
    assert run("--again", "energy").stdout.count(" before; --again ") == len(PARTS) - 1


def test_what_is_misused_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rehearsal = ["--device", "cpu", "--shape", "tiny", "--output", str(tmp_path / "a.json")]
    assert main([*rehearsal, "--parts", "speed,nonsense"]) == 2
    assert "there is no part 'nonsense'" in capsys.readouterr().err
    Record(tmp_path / "a.json", ASKED | {"shape": "0.6b"}).put("speed", {"status": "passed"})
    assert main(rehearsal) == 2
    assert "holds results for" in capsys.readouterr().err


def test_no_part_begins_when_the_time_is_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "a.json"
    arguments = ["--device", "cpu", "--shape", "tiny", "--output", str(output), "--minutes", "0.1"]
    assert main([*arguments, "--parts", "energy", "--scratch", str(tmp_path)]) == 1
    assert "energy: not begun" in capsys.readouterr().out
    assert not output.exists()


def test_without_a_gpu_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert main(["--output", str(tmp_path / "a.json"), "--parts", "tests"]) == 2
    assert "sees no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "a.json").exists()


# --- parts apart ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cuda"])  # forked, and in a fresh process
@pytest.mark.parametrize(
    ("run", "status", "error", "rows"),
    [
        (gpu_parts.passes, "passed", None, 2),
        (gpu_parts.fails, "failed", "ZeroDivisionError: on purpose", 1),
        (gpu_parts.skips, "skipped", "not here", 0),
        (gpu_parts.dies, "failed", "status 7", 1),
    ],
)
def test_a_part_ends_in_one_of_these_ways(
    tmp_path: Path, device: str, run: Callable[..., Any], status: str, error: str | None, rows: int
) -> None:
    found: list[dict[str, Any]] = []
    ended = run_apart(run, setting_in(tmp_path, device), 60, found.append)
    assert ended.status == status
    assert error in ended.error if error else ended.error is None
    assert len(found) == rows


def test_a_part_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    ended = run_apart(gpu_parts.hangs, setting_in(tmp_path), 2, found.append)
    assert ended.status == "timed out"
    assert 2 <= ended.seconds < 20
    for _ in range(100):
        state = Path(f"/proc/{found[0]['child']}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":  # ended, and nobody has asked how
            return
        time.sleep(0.1)
    pytest.fail("its child lives on")


def test_a_part_that_was_cut_off_runs_again(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "a.json", ASKED)
    record.put("tests", {"status": RUNNING, "rows": [{"name": "one"}]})
    record.put("speed", {"status": "failed", "rows": []})
    found = Record.open(tmp_path / "a.json", ASKED)
    assert [found.has(name) for name in ("tests", "speed", "energy")] == [False, True, False]
    assert found.parts["tests"]["rows"] == [{"name": "one"}]
    (tmp_path / "a.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UsageError, match="does not hold earlier results"):
        Record.open(tmp_path / "a.json", ASKED)


# --- tests in a part --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_test_is_reported_as_it_ends(tmp_path: Path) -> None:
    """Three tests of a file, then those marked gpu."""
    if torch.cuda.is_available():
        pytest.skip("those marked gpu would run")
    file = tmp_path / "test_three.py"
    file.write_text(
        "import pytest, time\n"
        "def test_one():\n    print('12 ms')\n"
        "def test_two():\n    assert 1 == 2, 'wrong'\n"
        "@pytest.mark.skip('not here')\ndef test_three(): pass\n"
    )
    rows = run_files(setting_in(tmp_path), [file, *FILES])
    one, two, three = (next(rows) for _ in range(3))
    assert [row["outcome"] for row in (one, two, three)] == ["passed", "failed", "skipped"]
    assert one["printed"] == "12 ms\n"
    assert "wrong" in two["said"]
    assert "not here" in three["said"]
    others: deque[dict[str, Any]] = deque()
    with pytest.raises(PartFailed, match="1 of 11 tests failed"):
        others.extend(rows)  # keeps what came before the error
    assert {row["name"].partition("::")[0] for row in others} == {*FILES}
    assert all("needs a CUDA device" in row["said"] for row in others)


# --- energy -----------------------------------------------------------------------------------------------------------


def test_power_is_integrated_between_readings() -> None:
    readings = Readings([(0.0, 100.0), (1.0, 100.0), (2.0, 300.0), (4.0, 300.0)])
    assert readings.joules(0.0, 1.0) == pytest.approx(100)
    assert readings.joules(1.0, 2.0) == pytest.approx(200)
    assert readings.joules(1.5, 1.75) == pytest.approx(0.25 * 225)
    assert readings.joules(0.5, 5.0) == pytest.approx(50 + 200 + 900)


def test_nvidia_smi_is_asked_where_python_has_no_nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in nvidia-smi's place, which fails unless it is asked as nvidia-smi is."""
    command = tmp_path / "nvidia-smi"
    asked = "--query-gpu=power.draw --format=csv,noheader,nounits -i GPU-12ab"
    command.write_text(f'#!/bin/sh\n[ "$*" = "{asked}" ] || exit 9\necho 123.50\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter, why = find_meter("12ab")
    assert meter is not None
    assert (meter.source, meter.read()) == ("nvidia-smi", 123.5)
    assert "nvml: " in why
    meter, why = find_meter("GPU-34cd")
    assert meter is None
    assert "nvidia_smi: CalledProcessError" in why


def test_calls_are_charged_with_what_was_drawn_meanwhile() -> None:
    busy = False

    def call(number: int) -> int:
        nonlocal busy
        busy = True
        time.sleep(0.3)
        return 10

    row = metered(Meter("test", lambda: 250.0 if busy else 50.0), call, 0.9)
    assert row["calls"] == 3
    assert row["idle_watts"] == pytest.approx(50, abs=40)  # a reading apart
    assert row["watts"] == pytest.approx(250, abs=40)
    assert row["joules_per_token"] == pytest.approx(row["watts"] * row["seconds"] / 30, rel=0.02)
    assert row["joules_per_token_above_idle"] < row["joules_per_token"]
    assert row["readings"] > 5


# --- a cache that does not move ---------------------------------------------------------------------------------------


def test_a_cache_that_does_not_move_gives_the_same_logits(tmp_path: Path) -> None:
    weights = load_weights(*write_pair(tmp_path, dtype="float32", seed=11), mode="merged")
    ids = torch.randint(0, 320, (3, 14), generator=torch.Generator().manual_seed(1))
    cache = FixedCache(weights, 3, 20)
    places = [layer.keys.data_ptr() for layer in cache.fixed]
    found = []
    with weights.at([0.4] * 3) as model, torch.no_grad():
        for part in (ids[:, :9], *ids[:, 9:].split(1, dim=1)):
            found.append(model(**cache.arguments(weights, part.tolist())).logits[:, -1])  # noqa: PERF401
        whole = model(ids).logits[:, 8:]
    torch.testing.assert_close(torch.stack(found, dim=1), whole, rtol=0, atol=1e-4)
    assert [layer.keys.data_ptr() for layer in cache.layers] == places  # type: ignore[union-attr]
