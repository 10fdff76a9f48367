"""The wheel in a bare virtual environment, away from the checkout: what a newcomer gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "constraints.txt").read_text().splitlines()


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run outside the checkout; nothing of this process's environment that could lead back to it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "COV", "PYTEST"))}
    command = tuple(map(str, command))
    done = subprocess.run(command, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_what_the_wheel_holds(wheel: Path) -> None:
    assert wheel.stat().st_size < 13_000_000
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        sizes = {i.filename: i.file_size for i in archive.infolist()}
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"dami_agent"}
    assert {"dami_agent/py.typed", "dami_agent/evaluation/policy.yaml"} <= set(names)
    assert any(n.endswith("licenses/LICENSE") for n in names)
    for side in ("instruct", "thinking"):
        for file in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
            assert f"dami_agent/checkpoints/builtin/{side}/{file}" in names
        assert sizes[f"dami_agent/checkpoints/builtin/{side}/model.safetensors"] <= 12_000_000
    assert not [n for n in names if n.startswith("dami_agent/checkpoints/builtin/base/")]  # only training reads it
    assert not [n for n in names if "__pycache__" in n or n.endswith((".sqlite", ".log"))]
    shipped = {p.relative_to(ROOT).as_posix() for p in (ROOT / "dami_agent").rglob("*.py")}
    assert shipped <= set(names)
    assert {f"dami_agent/report/assets/{p.name}" for p in (ROOT / "dami_agent/report/assets").iterdir()} <= set(names)


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel and its `agents` extra, installed as the README says; its bin folder."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", "venv", cwd=folder)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", ROOT / "constraints.txt")
    run(*pip, next(line for line in LINES if line.startswith("torch==")), cwd=folder)  # first: see the Makefile
    run(*pip, f"dami-agent[agents] @ {wheel.as_uri()}", cwd=folder)
    return python.parent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_runs_from_the_wheel(bare: Path, tmp_path: Path) -> None:
    where = run(bare / "python", "-c", "import dami_agent; print(dami_agent.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(bare.parent)
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "DAMI_LEDGER": "", "HF_HUB_OFFLINE": "1"}
    shown = json.loads(run(bare / "dami", "demo", "--json", cwd=tmp_path, **home))
    assert set(shown) >= {"steps", "totals"}
    fields = {
        "task",
        "step",
        "tool",
        "lambda",
        "reason",
        "prompt_tokens",
        "reasoning_tokens",
        "answer_tokens",
        "seconds",
    }
    assert shown["steps"]
    assert all(set(step) >= fields for step in shown["steps"])
    assert set(shown["totals"]) == {"dami", "instruct", "thinking"}
    assert all(t["tasks"] == 20 for t in shown["totals"].values())
    assert list(tmp_path.rglob("ledger.sqlite"))  # where a newcomer's is: in the user's data directory
    rows = json.loads(run(bare / "dami", "logs", "--json", cwd=tmp_path, **home))
    assert len(rows) >= len(shown["steps"])
