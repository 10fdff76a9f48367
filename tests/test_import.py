"""What `import dami_agent` offers, and what it costs."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import dami_agent

PUBLIC = {
    "BudgetTracker",
    "ChatDAMI",
    "CheckpointPair",
    "ConfidenceEstimator",
    "DamiError",
    "FixedEstimator",
    "Frontier",
    "Intensity",
    "Ledger",
    "LocalEngine",
    "Prices",
    "ReasoningBudgetMiddleware",
    "ReasoningPolicy",
    "__version__",
    "trace",
}


def run(code: str, *options: str, **environment: str) -> str:
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment or None)
    return done.stdout.strip()


def test_the_exported_names() -> None:
    assert set(dami_agent.__all__) == PUBLIC
    assert set(dir(dami_agent)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(dami_agent, name) is not None


def test_a_name_that_is_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        dami_agent.Nonsense  # noqa: B018


def test_version_is_the_packages() -> None:
    assert dami_agent.__version__ == importlib.metadata.version("dami-agent")


def test_import_takes_nothing_heavy() -> None:
    code = "import sys; import dami_agent; print(sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
    heavy = ["torch", "transformers", "langchain_core", "numpy", "sqlalchemy", "llguidance", "pydantic"]
    out = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_import_is_quick() -> None:
    """Under 0.3 s; counted in processor time, so that a busy machine does not decide, and the best of three."""
    code = "import time; t = time.process_time(); import dami_agent; print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(3)) < 0.3


@pytest.mark.parametrize("module", ["dami_agent", "dami_agent.ledger", "dami_agent.testing", "dami_agent.cli.app"])
def test_import_writes_nothing_and_asks_no_network(module: str, tmp_path: Path) -> None:
    code = f"""
import sys
def watch(event, args):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        raise SystemExit(f"{{event}} {{args}}")
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        raise SystemExit(f"wrote {{args[0]}}")
    if event in ("os.mkdir", "sqlite3.connect"):
        raise SystemExit(f"{{event}} {{args}}")
sys.dont_write_bytecode = True
sys.addaudithook(watch)
import {module}
print("quiet")
"""
    home = {"HOME": str(tmp_path), "PATH": "", "DAMI_LEDGER": ""}
    assert run(code, **home) == "quiet"
    assert list(tmp_path.iterdir()) == []
