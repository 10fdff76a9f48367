"""Make one thought of every reply: what stands before its last close marker is reasoning, whoever decoded it.

An engine that masks the markers once the answer has begun writes one thought. Others cannot know that their model will
close a second one, and what was shown of an answer cannot be taken back: theirs is held until it is whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from dami_agent.types import TokenEvent

__all__ = ["one_thought"]


def one_thought(events: Iterable[TokenEvent], *, open_id: int | None, close_id: int | None) -> Iterator[TokenEvent]:
    """Yield the same tokens in the same order, with parts that make one thought of them.

    A thought is given out as it comes, an answer at its end. A close marker in it makes all before it reasoning; what
    follows an opening one is reasoning too, closed or not. The markers are ``control``.

    Args:
        events: of one reply, in order.
        open_id, close_id: ids of ``<think>`` and ``</think>``; None where the vocabulary has no single token for one.
    """
    held: list[TokenEvent] = []
    thinking = False  # in a thought that was opened in the answer
    for event in events:
        marker = event.part == "answer" and event.token_id in (open_id, close_id)
        if marker and event.token_id == close_id:
            yield from (_as_reasoning(each) for each in held)
            held, thinking = [], False
        elif marker:
            thinking = True
        if marker:
            event = dataclasses.replace(event, part="control")
        elif thinking and event.part == "answer":
            event = dataclasses.replace(event, part="reasoning")
        if held or event.part == "answer" or thinking:
            held.append(event)
        else:
            yield event
    yield from held


def _as_reasoning(event: TokenEvent) -> TokenEvent:
    return dataclasses.replace(event, part="reasoning") if event.part == "answer" else event
