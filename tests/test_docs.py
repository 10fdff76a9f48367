"""The pages of docs/ hold: what they show runs, what they name exists, the frontier's schema is the shipped one's."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from dami_agent.cli.app import app
from dami_agent.estimators import estimator_names
from dami_agent.estimators.registry import unregister_estimator

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


SHOWN = [(page, block) for page in ("extending.md", "frontier.md") for block in blocks(page, "python")]


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


def test_every_function_that_the_architecture_names_is_there() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_/]+\.py):([A-Za-z_.]+)`", text)
    assert len(named) >= 15
    for file, name in named:
        source = (ROOT / "dami_agent" / file).read_text(encoding="utf-8")
        assert re.search(rf"\b(def|class) {name.rpartition('.')[2]}\b", source), f"{file}:{name}"


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / page).read_text(encoding="utf-8")):
        assert (DOCS / target).exists(), target
