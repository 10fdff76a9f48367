"""Say which stop string ends an answer, wherever it is looked for.

The first that is complete wins; of those that are complete with the same character, the longest. That depends on the
text alone and not on how it was cut into tokens, so whoever reads the answer later finds the same end.

Newlines that open an answer are the template's habit (``</think>\\n\\n``) and are dropped from its text; a stop string
that lies wholly in them does not count.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["first_stop"]


def first_stop(text: str, stops: Iterable[str], opening: int = 0) -> tuple[int, str] | None:
    """Find the stop string that ends the answer.

    Args:
        text: of the answer, or its end.
        stops: the stop strings, none of them empty.
        opening: how many characters at the start of ``text`` are newlines that open the answer.

    Returns:
        Where the stop string begins, and which it is; None if there is none yet.
    """
    found = []
    for stop in stops:
        at = text.find(stop, max(0, opening - len(stop) + 1))
        if at >= 0:
            found.append((at + len(stop), at, stop))
    if not found:
        return None
    _, at, stop = min(found)
    return at, stop
