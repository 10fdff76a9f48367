"""Put measured figures where they are read: ``python -m builtin_pair publish``; ``make results`` measures first.

Reads from ``results`` what ``SOURCES`` names and, of agents on tasks with something unseen, ``unseen-template.json``,
``unseen-name.json`` and ``unseen-length.json``. Rewrites what stands between ``<!-- results:NAME -->`` and
``<!-- /results:NAME -->`` in README, docs/training.md, docs/policy.md, docs/results.md, builtin_pair/README.md and the
built-in pair's card; the names are those of ``tables.BLOCKS``. Then it draws ``docs/frontier.svg`` and
``docs/budgets.svg``. Nothing is written unless all of it can be, and publishing twice changes nothing.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from builtin_pair.acceptance import plot
from builtin_pair.acceptance.accept import accepted
from builtin_pair.acceptance.tables import BLOCKS
from dami_agent.checkpoints import CheckpointPair
from dami_agent.checkpoints.headers import read_tensors
from dami_agent.errors import DamiError, UsageError
from dami_agent.tasks import UNSEEN

ROOT = Path(__file__).parents[2]
CARD = "dami_agent/checkpoints/builtin/card.md"
PICTURE, BUDGETS = "docs/frontier.svg", "docs/budgets.svg"
PICTURES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    PICTURE: ("sweep", plot.picture),
    BUDGETS: ("budgets", plot.budget_picture),
}
"""File -> which result it is drawn from, and how."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "README.md": ("frontier", "agents", "depth", "budgets"),
    "docs/training.md": (
        "bars",
        "agent_bars",
        "levels",
        "templates",
        "controls",
        "estimator",
        "heads",
        "agents_unseen",
    ),
    "docs/policy.md": ("prefix",),
    "docs/results.md": ("quality", "merges", "limits_agents", "limits_questions", "limits_budgets", "limits_unseen"),
    "builtin_pair/README.md": ("bfcl",),
    CARD: (
        "pair",
        "bars",
        "frontier",
        "cells",
        "unseen",
        "tools",
        "controls",
        "agents",
        "agents_unseen",
        "freeform",
        "conversations",
    ),
}
"""Marker names each file must have; it may have others of ``BLOCKS`` besides."""

SOURCES = {
    "sweep": "dami sweep --json",
    "heads": "dami train-estimator --json > results/heads.json",
    "bench": "dami bench --json",
    "budgets": "dami bench --budgets --json",
    "calibrate": "python -m dami_agent.evaluation.confidence_rule",
    "bfcl": "python -m builtin_pair bfcl --output results/bfcl.json",
    "freeform": "python -m builtin_pair freeform --output results/freeform.json",
    "conversations": "python -m builtin_pair conversations --output results/conversations.json",
    "prefix": "dami bench prefix --json",
    "unseen": "dami bench --unseen WHAT --tasks 102 --no-controls --json",
    "quality": "dami bench quality --json",
    "merges": "dami bench merges --base builtin_pair/base --json",
}
"""What blocks are made from and what measures it; ``unseen`` is one result for each of ``UNSEEN``, by its name."""

OPTIONAL = frozenset({"quality", "merges"})
"""What `make rivals` measures, and `make results` does not: without it everything else is published all the same."""

_BLOCK = re.compile(r"<!-- results:(?P<name>[\w-]+) -->\n(?P<text>.*?)<!-- /results:(?P=name) -->", re.DOTALL)
_STALE = re.compile(r"\A\*Not measured on the weights that ship;.*?\n\n")
_MARKER = re.compile(r"<!-- /?results:[\w-]* -->")


def publish(results: Path, root: Path = ROOT, *, partial: bool = False) -> list[str]:
    """Rewrite the blocks and draw the pictures.

    Args:
        results: folder of the JSON files.
        root: of the checkout.
        partial: keep blocks whose results are missing or of other weights, and say in them that they are.

    Returns:
        Which files changed, relative to ``root``.

    Raises:
        UsageError: a result is missing or of another pair (unless ``partial``), a file or a marker is missing;
            nothing is written then.
    """
    found, stale = read_results(results, CheckpointPair.builtin())
    wanting = [reason for source, reason in stale.items() if source not in OPTIONAL]
    if wanting and not partial:
        raise UsageError("; ".join(wanting), hint="measure these again, or everything with `make results`")
    for reason in stale.values():
        typer.echo(f"left as it was: {reason}", err=True)
    texts = {name: filled(name, _read(root / name), found, required) for name, required in REQUIRED.items()}
    for name, (source, draw) in PICTURES.items():
        if source in found:
            texts[name] = draw(found[source])
    changed = []
    for name, text in texts.items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    return changed


def read_results(folder: Path, pair: CheckpointPair) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
    """Read every result that was measured on ``pair``, and what is known of the pair itself.

    A sweep that has not been accepted yet is judged here by what it holds.

    Returns:
        The results by source, and why others are not among them: files that are missing, are no JSON, are of other
        weights, or are of agent tasks other than their names say, each with the command that measures it.
    """
    stale: dict[str, str] = {}

    def read(source: str, name: str, command: str, unseen: str | None = None) -> Mapping[str, Any]:
        path = folder / f"{name}.json"
        try:
            data = _result(path, pair)
            if source in ("bench", "unseen"):
                _check_tasks(path, data.get("unseen"), unseen)
            return data
        except UsageError as error:
            told = f"{error.message} (`{command}`)"
            stale[source] = f"{stale[source]}; {told}" if source in stale else told
            return {}

    found: dict[str, Mapping[str, Any]] = {"pair": facts(pair)}
    for name, command in SOURCES.items():
        if name != "unseen":
            found[name] = read(name, name, command)
    kinds: dict[str, Any] = {
        kind: read("unseen", f"unseen-{kind}", SOURCES["unseen"].replace("WHAT", kind), kind) for kind in UNSEEN
    }
    found["unseen"] = kinds
    found = {name: data for name, data in found.items() if name not in stale}
    if (sweep := found.get("sweep")) and not {"criteria", "bars"} & set(sweep):
        found["sweep"] = accepted(sweep, sweep.get("unseen") or (), sweep.get("suites"))
    return found, stale


def _result(path: Path, pair: CheckpointPair) -> Mapping[str, Any]:
    try:
        data: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if data.get("fingerprint") != pair.fingerprint:
        raise UsageError(f"{path} was measured on other weights than the built-in pair's")
    return data


def _check_tasks(path: Path, found: str | None, wanted: str | None) -> None:
    """Refuse a result of agents on other tasks than wanted: those with something unseen, or, with None, the usual."""
    if found != wanted:
        told = [f"tasks with an unseen {kind}" if kind else "the usual tasks" for kind in (found, wanted)]
        raise UsageError(f"{path} is of {told[0]}, not of {told[1]}")


def facts(pair: CheckpointPair) -> dict[str, Any]:
    """Return shape and size of the pair, read from its files."""
    tensors = read_tensors(pair.instruct.path)
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size")
    return {name: pair.config[name] for name in names} | {
        "architecture": pair.config["architectures"][0],
        "intermediate_size": pair.config["intermediate_size"],
        "parameters": sum(math.prod(entry.shape) for entry in tensors.values()),
        "bytes": sum(entry.nbytes for entry in tensors.values()),
        "dtype": next(iter(tensors.values())).dtype,
        "fingerprint": pair.fingerprint,
    }


def filled(name: str, text: str, found: Mapping[str, Mapping[str, Any]], required: tuple[str, ...] = ()) -> str:
    """Return ``text`` with every block written anew.

    Args:
        name: the file's name, for errors.
        text: the file's text.
        found: the results, by source; a block whose source is not among them keeps its text, and a note says so.
        required: blocks that must be there.

    Raises:
        UsageError: a required block is missing, a marker has no partner or an unknown name, a result lacks a figure.
    """
    here = [match["name"] for match in _BLOCK.finditer(text)]
    missing = [block for block in required if block not in here]
    if missing:
        pairs = ", ".join(f"<!-- results:{block} --> <!-- /results:{block} -->" for block in missing)
        raise UsageError(f"{name} lacks markers", hint=f"put on lines of their own: {pairs}")
    stray = _MARKER.findall(_BLOCK.sub("", text)) + [
        m for b in _BLOCK.finditer(text) for m in _MARKER.findall(b["text"])
    ]
    unknown = [block for block in here if block not in BLOCKS]
    if stray or unknown:
        raise UsageError(
            f"{name}: markers without partner or of unknown name: {', '.join([*stray, *unknown])}",
            hint=f"names are {', '.join(BLOCKS)}; each begins with results:NAME and ends with /results:NAME",
        )

    def block(match: re.Match[str]) -> str:
        source, write = BLOCKS[match["name"]]
        try:
            body = write(found[source]) if source in found else _kept(match["text"], SOURCES[source])
        except (KeyError, TypeError, IndexError) as error:
            raise UsageError(
                f"results of `{SOURCES.get(source, source)}` lack what {match['name']} shows: "
                f"{type(error).__name__} {error}",
                hint="measure them again with `make results`",
            ) from error
        return f"<!-- results:{match['name']} -->\n{body}\n<!-- /results:{match['name']} -->"

    return _BLOCK.sub(block, text)


def _kept(text: str, command: str) -> str:
    """Return a block that cannot be written anew, with a note that says so."""
    body = _STALE.sub("", text).strip()
    if not any(line.startswith(("|", "- ")) for line in body.splitlines()):  # neither a table nor a list
        return f"Not measured yet: `{command}` does."
    return f"*Not measured on the weights that ship; `{command}` does.*\n\n{body}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error}", hint="run it in a checkout of the project") from error


def main(results: Path, *, partial: bool = False) -> None:
    """Publish what ``results`` holds, and say which files changed; ends the process with 1 if something is missing."""
    try:
        changed = publish(results, partial=partial)
    except DamiError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    typer.echo("\n".join(f"rewrote {name}" for name in changed) or "nothing has changed")
