"""Mistakes the pair makes by itself, recorded, so that Thinking learns to find and mend them.

Nothing is planted: a checkpoint thinks about training questions at temperature 1; where a line of its thought has a
wrong result and the thought goes on to its check, the thought is kept up to the check and given a truthful one. Only
what follows the mistake is learned from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

from tokenizers import Tokenizer

from dami_agent.tasks.model import Operation, Question
from dami_agent.tasks.questions import practice
from dami_agent.training import thoughts
from dami_agent.training.evaluate import Bench, ask
from dami_agent.training.render import Dialogue, Turn
from dami_agent.training.sampler import State

_RESULT = re.compile(r"= (\d+)\.$")


@dataclass(frozen=True)
class Slip:
    """A question, the thought up to its check with a wrong result in it, and how it should go on."""

    prompt: str
    given: str
    thought: str
    reply: str

    def dialogue(self) -> Dialogue:
        """The document; what the model wrote itself is context, not target."""
        turn = Turn("assistant", self.reply, self.thought, given=self.given)
        return Dialogue([Turn("user", self.prompt), turn], template="thinking", family="slip")


def chained(work: Sequence[object]) -> bool:
    """Whether every operation starts from the last one's result."""
    steps = [step for step in work if isinstance(step, Operation)]
    if len(steps) != len(work) or not steps:
        return False
    return all(after.left == before.result for before, after in pairwise(steps))


def find(item: Question, thought: str) -> Slip | None:
    """The first wrong line of a thought that has a line for every step and then a check, as a document."""
    body, check, _ = thought.partition("\nCheck:")
    lines = body.split("\n")
    head = 1 if lines[0].startswith("We have") else 0
    work = [step for step in item.work if isinstance(step, Operation)]
    if not check or len(lines) - head != len(work) or not chained(item.work):
        return None
    for index, (step, line) in enumerate(zip(work, lines[head:], strict=True)):
        found = _RESULT.search(line)
        if found is None:
            return None
        if (said := int(found[1])) != step.result:
            if said < step.right and step.symbol == "+":
                return None
            going_on = thoughts.revised(work, index, said)
            return Slip(item.prompt, body + "\n", going_on, f"The answer is {item.answer}.")
    return None


def collect(state: State, tokenizer: Tokenizer, *, count: int, seed: int = 0) -> list[Slip]:
    """Think about `count` training questions with several steps each, and keep the slips."""
    rng, items = Random(f"slips:{seed}"), list[Question]()
    while len(items) < count:
        item = practice(rng, rng.choice(("chain", "story")))
        if item.split == "train" and len(item.work) > 1:
            items.append(item)
    replies = Bench(tokenizer).replies(state, [ask(item, "thinking") for item in items], temperature=1.0, seed=seed)
    found = [find(item, reply.thought) for item, reply in zip(items, replies, strict=True)]
    return [slip for slip in found if slip is not None]


def write(path: Path, slips: Sequence[Slip]) -> None:
    """One JSON line a slip."""
    path.write_text("".join(json.dumps(vars(slip)) + "\n" for slip in slips), encoding="utf-8")


def read(path: Path) -> list[Dialogue]:
    """The documents of a file that `write` wrote."""
    return [Slip(**json.loads(line)).dialogue() for line in path.read_text(encoding="utf-8").splitlines()]
