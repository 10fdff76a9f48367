"""Documents whose thought was closed before its end: what stands after such a close is learned, and nothing else.

An engine closes a thought at its cap, wherever that is, and the answer must come then: from what the thought has
found, where it has reached the result, else tersely, as Instruct answers. The thought is cut at any place, in the
middle of a line or of a number too; neither it nor its end is learned from, so that nobody learns to stop thinking.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from builtin_pair.composed import composed_chain, composed_work
from builtin_pair.training import thoughts
from builtin_pair.training.calling import Noun, labelled, noun, task_turns
from builtin_pair.training.render import Turn
from dami_agent.tasks import novel
from dami_agent.tasks.agent import agent_task
from dami_agent.tasks.task import AgentTask, Question, Working

CLOSINGS = ("\n</think>\n\n", "</think>\n\n", "\nI have to answer now.\n</think>\n\n")
"""What the engine writes to close a thought: the chat template's own end of one, the bare marker, a sentence first."""

_WEIGHTS = (3, 1, 1)

_LATE = 0.35
"""Share of the cuts that are sought behind the result: a thought that has it must not be answered beside it."""

_PIECE = re.compile(r" [-+*/=] |[^\W\d_]+|\d|\n| +|[^\w\s]+|.")
"""Roughly a token: a cut falls between two."""


def cut(rng: Random, thought: str) -> str:
    """Return the beginning of a thought, from nothing to all but its last piece."""
    pieces = _PIECE.findall(thought)
    return "".join(pieces[: rng.randrange(len(pieces))]) if pieces else ""


def reached(kept: str, thought: str, work: Sequence[Working], style: float) -> bool:
    """Return whether the beginning `kept` of a thought holds the result of its last step.

    Args:
        kept: the beginning of the thought.
        thought: the whole thought.
        work: the working of the thought.
        style: level of detail of the thoughts, 0 to 1.
    """
    if not work:
        return kept == thought
    last = work[-1]
    said = last.value if style < thoughts.VALUES else last.line if style < thoughts.LINES else last.detail
    body = thought.partition("\nCheck:")[0].partition("\nSo the result is")[0]
    at = body.rfind(said)
    return at >= 0 and len(kept) >= at + len(said)


def closed(rng: Random, turn: Turn, tersely: str, work: Sequence[Working], style: float) -> Turn:
    """Draw a reply whose thought is cut and closed; what it says is `tersely` where the result is not reached.

    Args:
        rng: the random stream.
        turn: the reply with its whole thought.
        tersely: what is said where the result is not reached.
        work: the working of the thought.
        style: level of detail of the thoughts, 0 to 1.
    """
    thought = turn.thought or ""
    kept = cut(rng, thought)
    if rng.random() < _LATE:
        tries = [kept, *(cut(rng, thought) for _ in range(8))]
        kept = next((each for each in tries if reached(each, thought, work, style)), kept)
    content = turn.content if reached(kept, thought, work, style) else tersely
    closing = rng.choices(CLOSINGS, _WEIGHTS)[0]
    return replace(turn, content=content, thought="", given=kept, closing=closing)


def cut_question(rng: Random, item: Question, style: float) -> list[Turn]:
    """Draw a question whose thought is cut."""
    answer = f"The answer is {item.answer}."
    turn = Turn("assistant", answer, thoughts.worked(item.work, style))
    tersely = f"{thoughts.terse(item.work)} {answer}".lstrip()
    return [Turn("user", item.prompt), closed(rng, turn, tersely, item.work, style)]


def _task(rng: Random) -> tuple[AgentTask, Noun]:
    roll = rng.random()
    if roll < 0.25:
        return novel.novel_task(rng, "train", bound=rng.choice((1, 2, 3))), noun
    if roll < 0.5:
        return (composed_chain if rng.random() < 0.5 else composed_work)(rng, "train"), labelled
    while True:
        task = agent_task(rng, "route" if roll < 0.6 else "work" if roll < 0.7 else "hard")
        if task is not None and task.split == "train":
            return task, noun


def cut_step(rng: Random, style: float) -> tuple[AgentTask, list[Turn]]:
    """Draw an agent task up to one of its model turns, whose thought is cut: before a call, or before the reply."""
    task, named = _task(rng)
    whole = task_turns(rng, task, "thinking", style, partial=False, noun=named)
    terse = task_turns(rng, task, "instruct", style, partial=False, noun=named)
    works = [*(tuple(step for call in group for step in call.work) for group in task.rounds), task.work]
    own = [index for index, turn in enumerate(whole) if turn.role == "assistant"]
    number = rng.randrange(len(own))
    at = own[number]
    turn = closed(rng, whole[at], terse[at].content, works[number], style)
    kept = rng.random() < 0.6
    before = [replace(each, learn=False, thought=each.thought if kept else None) for each in whole[:at]]
    return task, [*before, turn]
