"""Pairs by one name, as other chat models take ``model=``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dami_agent.errors import InvalidRequest, shown
from dami_agent.types import BUILTIN

_HINT = "'builtin', a folder with instruct/ and thinking/ in it, or 'INSTRUCT+THINKING' (folders or hub ids)"


def pair_named(name: Any) -> tuple[str | None, str | None]:
    """Return the Instruct and Thinking checkpoints that ``name`` stands for; (None, None) is the built-in pair.

    Args:
        name: ``builtin``, a folder that holds ``instruct`` and ``thinking``, or ``A+B``.

    Raises:
        InvalidRequest: it names no pair.
    """
    text = str(name)
    if text in ("builtin", BUILTIN):
        return None, None
    folder = Path(text).expanduser()
    if (folder / "instruct").is_dir() and (folder / "thinking").is_dir():
        return str(folder / "instruct"), str(folder / "thinking")
    parts = [part.strip() for part in text.split("+")]
    if len(parts) == 2 and all(parts):
        return parts[0], parts[1]
    raise InvalidRequest(f"model={text!r} does not name a pair", hint=_HINT)


def check_pair(key: str, name: Any, model_name: str, pair: tuple[str | None, str | None]) -> None:
    """Accept a pair's name at the call if it is the model's own, as some agents pass it along.

    Args:
        key: ``model`` or ``model_name``, for the message.
        name: as given at the call.
        model_name: the model's own name.
        pair: its Instruct and Thinking checkpoints.

    Raises:
        InvalidRequest: it names another pair, or none.
    """
    if name == model_name:
        return
    try:
        own = _places(pair_named(name)) == _places(pair)
    except InvalidRequest:
        own = False
    if not own:
        raise InvalidRequest(
            f"{key}={shown(name)} at the call, but this model runs {model_name!r}",
            hint=f"leave {key} out, or build another: ChatDAMI(model=…) with {_HINT}",
        )


def _places(pair: tuple[str | None, str | None]) -> list[str | None]:
    """Checkpoints with folders as absolute paths."""
    return [
        str(Path(one).expanduser().resolve()) if one is not None and Path(one).expanduser().is_dir() else one
        for one in pair
    ]


def with_pair(values: Mapping[str, Any]) -> dict[str, Any]:
    """Init arguments with ``instruct`` and ``thinking`` in place of ``model`` or ``model_name``.

    Raises:
        InvalidRequest: the name is of no pair, or of another than ``instruct`` and ``thinking`` say.
    """
    result = {name: value for name, value in values.items() if name not in ("model", "model_name")}
    for key in ("model", "model_name"):
        if values.get(key) is None:
            continue
        for side, checkpoint in zip(("instruct", "thinking"), pair_named(values[key]), strict=True):
            if result.get(side, checkpoint) != checkpoint:
                raise InvalidRequest(
                    f"{key}={values[key]!r} and {side}={result[side]!r} name different checkpoints",
                    hint=f"give either {key} or instruct and thinking",
                )
            result[side] = checkpoint
    return result
