"""The pages of docs/ hold: what they show runs, what they name exists, the frontier's schema is the shipped one's."""

from __future__ import annotations

import ast
import json
import re
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from dami_agent.cli.app import app
from dami_agent.estimators import estimator_names
from dami_agent.estimators.registry import unregister_estimator

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


SHOWN = [(page, block) for page in ("extending.md", "frontier.md") for block in blocks(page, "python")]
SHOWN += [("policy.md", block) for block in blocks("policy.md", "python") if "cascade" in block]


@pytest.mark.parametrize(("page", "block"), SHOWN, ids=[f"{page}-{n}" for n, (page, _) in enumerate(SHOWN)])
def test_what_is_shown_runs(page: str, block: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAMI_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    before = set(estimator_names())
    exec(compile(block, page, "exec"), {"__name__": "docs"})
    for name in set(estimator_names()) - before:
        unregister_estimator(name)


def test_the_frontier_that_ships_follows_the_schema() -> None:
    (text,) = blocks("frontier.md", "json")
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    shipped = resources.files("dami_agent.checkpoints").joinpath("builtin/frontier.json").read_text(encoding="utf-8")
    jsonschema.validate(json.loads(shipped), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"rows": [{"lambda": 0, "accuracy": 0.5}]}, schema)


def defined(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Map what a module or class defines to the body of each: a class's own, nothing's for all else."""
    found: dict[str, list[ast.stmt]] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = node.body
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[node.name] = []
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update({target.id: [] for target in targets if isinstance(target, ast.Name)})
    return found


def is_there(file: str, name: str) -> bool:
    """Tell whether a module of the package defines ``name``, ``Class.method`` spelt out; "" asks for the file alone."""
    path = ROOT / "dami_agent" / file
    if not path.is_file():
        return False
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for part in name.split(".") if name else []:
        if part not in defined(body):
            return False
        body = defined(body)[part]
    return True


def test_every_name_in_architecture_and_glossary_is_there() -> None:
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in ("architecture.md", "glossary.md"))
    named = re.findall(r"`([^`\s]+\.py)(?::([^`]*))?`", text)
    assert sum(bool(name) for _, name in named) >= 50
    assert not [f"{file}:{name}" for file, name in named if not is_there(file, name)]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("policy/budget.py", "Budgets"),  # no such file
        ("policy/budgets.py", "settle"),  # a method, named without its class
        ("policy/budgets.py", "Budgets.pay"),
        ("policy/budgets.py", "Account"),  # imported there, defined elsewhere
        ("policy/budgets.py", "Budgets.settle()"),
    ],
)
def test_a_name_that_is_not_there_is_found(file: str, name: str) -> None:
    assert not is_there(file, name)


def test_the_layers_are_those_that_imports_are_checked_by() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    picture = text.partition("## Layers\n\n")[2].partition("\n\n")[0]
    rows = [re.split(r"\s{2,}", line[4:])[0] for line in picture.splitlines() if line[4] != " "]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = (each for each in settings["contracts"] if each.get("containers") == ["dami_agent"])
    assert rows == [re.sub(r"[()]", "", layer) for layer in contract["layers"]]


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / page).read_text(encoding="utf-8")):
        assert (DOCS / target).exists(), target
