"""Read untrusted files behind one guard: whatever a library raises over them leaves as one error of ours.

A list of expected exceptions is never complete there: parsers, tokenizers and model classes raise what they like, and
libraries written in Rust panic with an exception that is no ``Exception``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dami_agent.errors import CheckpointError, CheckpointNotFound, DamiError

AGAIN = "download it again (or copy it again); the file on disk is incomplete"
SHOWN = 400  # characters of a library's message that are passed on
MAX_DEPTH = 64  # lists and objects in each other; published files have up to a dozen
MAX_NUMBER = 1 << 53  # beyond it JSON's numbers are not exact; no size, id or length comes near
MAX_BYTES = {"tokenizer.json": 512 << 20}  # published ones have up to 40 MB
OTHER_BYTES = 64 << 20


@contextmanager
def guarded(what: str, *, hint: str, kind: type[CheckpointError] = CheckpointError) -> Iterator[None]:
    """Let errors of ours pass and turn every other, Rust panics included, into ``kind``.

    Args:
        what: the file or folder, and what is done with it: the beginning of the message.
        hint: what to do about it.
        kind: class of the error.
    """
    try:
        yield
    except (DamiError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise kind(f"{what}: {said(error)}", hint=hint) from error


def said(error: BaseException) -> str:
    """Format an exception's class and message on one line, whatever its ``__str__`` does."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    text = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return f"{type(error).__name__}{': ' if text else ''}{text}"


def read_text(path: Path) -> str:
    """Read the text of a regular file of bearable size.

    Raises:
        CheckpointNotFound: no such file, or something else of that name (a folder, a pipe, a link that leads nowhere).
        CheckpointError: too large, or not UTF-8.
    """
    with guarded(f"{path} cannot be read", hint=AGAIN):
        if not path.is_file():
            raise CheckpointNotFound(f"{path} is not a regular file", hint="a file, or a link to one, is needed there")
        size, most = path.stat().st_size, MAX_BYTES.get(path.name, OTHER_BYTES)
        if size > most:
            raise CheckpointError(f"{path} has {size:,} bytes, more than the {most:,} read of it", hint=AGAIN)
        return path.read_text(encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in ``path``.

    Raises:
        CheckpointError: not readable, not JSON, not an object, nested too deep, or numbers out of all bounds.
    """
    text = read_text(path)
    with guarded(f"{path} cannot be read as JSON", hint=AGAIN):
        data = json.loads(text)
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds {type(data).__name__}, a JSON object was expected", hint=AGAIN)
    _refuse_nesting(data, path)
    return data


def _refuse_nesting(data: Any, path: Path) -> None:
    level, depth = [data], 0
    while level := [part for value in level for part in _parts(value)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise CheckpointError(f"{path} nests lists and objects more than {MAX_DEPTH} deep", hint=AGAIN)


def _parts(value: Any) -> list[Any]:
    inside = value.values() if isinstance(value, dict) else value
    return [part for part in inside if isinstance(part, (dict, list))]


def refuse_numbers(data: Mapping[str, Any], path: Path, *, beyond: tuple[str, ...] = ()) -> None:
    """Refuse integers that no field of a checkpoint's configuration can mean; ``beyond``: keys that may hold any.

    Raises:
        CheckpointError: naming the field.
    """
    open_ends: list[tuple[str, Any]] = list(data.items())
    while open_ends:
        key, value = open_ends.pop()
        if isinstance(value, dict):
            open_ends += [(str(k), v) for k, v in value.items()]
        elif isinstance(value, list):
            open_ends += [(key, v) for v in value]
        elif isinstance(value, int) and abs(value) > MAX_NUMBER and key not in beyond:
            raise CheckpointError(
                f"{path}: {key} is a number of {value.bit_length()} bits", hint="compare it with the family's file"
            )
