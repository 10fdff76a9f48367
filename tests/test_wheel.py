"""The wheel, installed away from the checkout: what a newcomer gets.

Its dependencies are those of this environment; that the declared ones suffice is read from its imports. A bare virtual
environment takes minutes: it is filled where ``DAMI_BARE_INSTALL`` is set, as ``make wheel`` does.
"""

from __future__ import annotations

import ast
import email
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib.metadata import distribution, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.demo_fields import STEP_FIELDS

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


def requirements(wheel: Path, extra: str | None = None) -> list[Requirement]:
    """What the wheel declares to need here, with or without an extra."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        declared = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    found = [Requirement(text) for text in declared]
    assert len(found) > 15
    return [r for r in found if r.marker is None or r.marker.evaluate({"extra": extra or ""})]


def imported(wheel: Path) -> dict[str, set[str]]:
    """The top-level modules of others that the wheel's code imports, each with the files that do."""
    found: dict[str, set[str]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for file in (n for n in archive.namelist() if n.endswith(".py")):
            for node in ast.walk(ast.parse(archive.read(file))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                for name in names:
                    found.setdefault(name.partition(".")[0], set()).add(file)
    return {name: files for name, files in found.items() if name not in {"dami_agent", *sys.stdlib_module_names}}


def brought(names: Iterable[str]) -> set[str]:
    """The distributions of ``names`` and all that those require."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            needs = map(Requirement, distribution(name).requires or ())
            waiting += [r.name for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def test_what_it_imports_is_what_it_requires(wheel: Path) -> None:
    """Every module that is imported comes with what is declared; an extra's are imported where it is used."""
    here = packages_distributions()
    required = brought(r.name for r in requirements(wheel))
    optional = {
        "langchain",
        "langgraph",
        "math-verify",
        "psycopg",
        "matplotlib",
        "pandas",
        "pytest",
        "reasoning-gym",
        "tomli",
        "vllm",
    }
    modules = imported(wheel)
    assert {"torch", "transformers", "pydantic", "typer"} <= set(modules)
    for module, files in modules.items():
        bringing = {canonicalize_name(name) for name in here.get(module, [module])}
        assert bringing & (required | optional), (module, files)


def test_what_it_requires_is_installed_here(wheel: Path) -> None:
    """So the environment of the tests is one that the wheel may be installed in."""
    for requirement in requirements(wheel, "agents"):
        assert requirement.specifier.contains(version(requirement.name), prereleases=True), requirement


@pytest.fixture(scope="module")
def beside(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The wheel alone in a folder, found before the checkout; the environment that finds it there."""
    folder = tmp_path_factory.mktemp("beside") / "site"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, wheel, cwd=folder.parent)
    return {"PYTHONPATH": str(folder)}


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel(beside: dict[str, str], tmp_path: Path) -> None:
    folder = Path(beside["PYTHONPATH"])
    demo_runs(Path(sys.executable), folder / "bin" / "dami", folder, tmp_path, beside, tasks=2)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not os.environ.get("DAMI_BARE_INSTALL"), reason="takes minutes: make wheel")
def test_the_demo_runs_in_a_bare_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A new virtual environment with the wheel and its ``agents`` extra, installed as the README says."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", "venv", cwd=folder)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", ROOT / "constraints.txt")
    run(*pip, next(line for line in LINES if line.startswith("torch==")), cwd=folder)  # first: see the Makefile
    run(*pip, f"dami-agent[agents] @ {wheel.as_uri()}", cwd=folder)
    demo_runs(python, python.parent / "dami", folder, tmp_path_factory.mktemp("elsewhere"), {}, tasks=20)


def demo_runs(
    python: Path, dami: Path, installed: Path, elsewhere: Path, environment: dict[str, str], *, tasks: int
) -> None:
    """Run ``dami demo`` and ``dami logs`` in ``elsewhere``, from the package that lies under ``installed``.

    Args:
        python: the interpreter that finds the installed package.
        dami: the installed console script.
        installed: the folder under which the package must be.
        elsewhere: the working directory, and home.
        environment: variables that both commands need.
        tasks: of the demo; 20 are its default.
    """
    where = run(python, "-c", "import dami_agent; print(dami_agent.__file__)", cwd=elsewhere, **environment).strip()
    assert Path(where).is_relative_to(installed)
    home = environment | {"HOME": str(elsewhere), "XDG_DATA_HOME": "", "DAMI_LEDGER": "", "HF_HUB_OFFLINE": "1"}
    shown = json.loads(run(dami, "demo", "--json", "--tasks", str(tasks), cwd=elsewhere, **home))
    assert set(shown) >= {"steps", "totals"}
    assert shown["steps"]
    assert all(set(step) >= STEP_FIELDS for step in shown["steps"])
    assert set(shown["totals"]) == {"dami", "instruct", "thinking"}
    assert all(t["tasks"] == tasks for t in shown["totals"].values())
    assert list(elsewhere.rglob("ledger.sqlite"))  # where a newcomer's is: in the user's data directory
    rows = json.loads(run(dami, "logs", "--json", cwd=elsewhere, **home))
    assert len(rows) >= len(shown["steps"])
