"""Put measured figures where they are read: ``python -m builtin_pair publish``; ``make results`` measures first.

Reads ``results/sweep.json``, ``bench.json``, ``calibrate.json`` and, of agents on tasks with something unseen,
``unseen-template.json``, ``unseen-name.json`` and ``unseen-length.json``. Rewrites what stands between
``<!-- results:NAME -->`` and ``<!-- /results:NAME -->`` in README, docs/training.md and the built-in pair's card; the
names are those of ``tables.BLOCKS``. Then it draws ``docs/frontier.svg``. Nothing is written unless all of it can be,
and publishing twice changes nothing.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
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
PICTURE = "docs/frontier.svg"
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "README.md": ("frontier", "agents"),
    "docs/training.md": ("bars", "levels", "templates", "controls", "estimator", "agents_unseen"),
    CARD: ("pair", "bars", "frontier", "cells", "unseen", "tools", "controls", "agents", "agents_unseen"),
}
"""Marker names each file must have; it may have others of ``BLOCKS`` besides."""

SOURCES = {
    "sweep": "dami sweep --json",
    "bench": "dami bench --json",
    "calibrate": "python -m dami_agent.evaluation.calibrate",
    "unseen": "dami bench --unseen WHAT --tasks 100 --no-controls --json",
}
"""What blocks are made from and what measures it; ``unseen`` is one result for each of ``UNSEEN``, by its name."""

_BLOCK = re.compile(r"<!-- results:(?P<name>[\w-]+) -->\n(?P<text>.*?)<!-- /results:(?P=name) -->", re.DOTALL)
_MARKER = re.compile(r"<!-- /?results:[\w-]* -->")


def publish(results: Path, root: Path = ROOT) -> list[str]:
    """Rewrite the blocks and draw the picture.

    Args:
        results: folder of the JSON files.
        root: of the checkout.

    Returns:
        Which files changed, relative to ``root``.

    Raises:
        UsageError: a result is missing or of another pair, a file or a marker is missing; nothing is written then.
    """
    found = read_results(results, CheckpointPair.builtin())
    texts = {name: filled(name, _read(root / name), found, required) for name, required in REQUIRED.items()}
    texts[PICTURE] = plot.picture(found["sweep"])
    changed = []
    for name, text in texts.items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    return changed


def read_results(folder: Path, pair: CheckpointPair) -> dict[str, Mapping[str, Any]]:
    """Read every result, all measured on ``pair``, and what is known of the pair itself.

    A sweep that has not been accepted yet is judged here by what it holds.

    Raises:
        UsageError: a file is missing, is no JSON, is of other weights, or is of agent tasks other than its name says.
    """
    found: dict[str, Mapping[str, Any]] = {"pair": facts(pair)}
    for name in ("sweep", "calibrate"):
        found[name] = _result(folder / f"{name}.json", SOURCES[name], pair)
    if not {"criteria", "bars"} & set(found["sweep"]):
        sweep = found["sweep"]
        found["sweep"] = accepted(sweep, sweep.get("unseen") or (), sweep.get("suites"))
    found["bench"] = _bench(folder / "bench.json", SOURCES["bench"], pair, None)
    found["unseen"] = {
        kind: _bench(folder / f"unseen-{kind}.json", SOURCES["unseen"].replace("WHAT", kind), pair, kind)
        for kind in UNSEEN
    }
    return found


def _result(path: Path, command: str, pair: CheckpointPair) -> Mapping[str, Any]:
    try:
        data: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint=_measure(command)) from error
    if data.get("fingerprint") != pair.fingerprint:
        raise UsageError(f"{path} was measured on other weights than the built-in pair's", hint=_measure(command))
    return data


def _bench(path: Path, command: str, pair: CheckpointPair, unseen: str | None) -> Mapping[str, Any]:
    """Read a result of agents, on tasks with something ``unseen`` or, without, on the usual ones."""
    data = _result(path, command, pair)
    found = data.get("unseen")
    if found != unseen:
        told, wanted = (f"tasks with an unseen {kind}" if kind else "the usual tasks" for kind in (found, unseen))
        raise UsageError(f"{path} is of {told}, not of {wanted}", hint=_measure(command))
    return data


def _measure(command: str) -> str:
    return f"write it with `{command}`, or everything with `make results`"


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
        found: the results, by name.
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
            body = write(found[source])
        except (KeyError, TypeError, IndexError) as error:
            raise UsageError(
                f"results of `{SOURCES.get(source, source)}` lack what {match['name']} shows: "
                f"{type(error).__name__} {error}",
                hint="measure them again with `make results`",
            ) from error
        return f"<!-- results:{match['name']} -->\n{body}\n<!-- /results:{match['name']} -->"

    return _BLOCK.sub(block, text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error}", hint="run it in a checkout of the project") from error


def main(results: Path) -> None:
    """Publish what ``results`` holds, and say which files changed; ends the process with 1 if something is missing."""
    try:
        changed = publish(results)
    except DamiError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    typer.echo("\n".join(f"rewrote {name}" for name in changed) or "nothing has changed")
