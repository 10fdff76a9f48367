"""Mistakes the pair makes by itself, recorded, so that Thinking learns to find and mend them.

Nothing is planted: a checkpoint thinks about training questions, and about steps of training tasks after the
reference's dialogue so far; where a line of its thought has a wrong result and the thought goes on to its check, the
thought is kept up to the check and given a truthful one. Only what follows the mistake is learned from.

A Thinking checks every thought, the base only those at the highest level of detail: record from a Thinking.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import Tokenizer

from builtin_pair.training import thoughts, tooling
from builtin_pair.training.calling import task_turns
from builtin_pair.training.documents import question_turns
from builtin_pair.training.export import State
from builtin_pair.training.render import TrainingDialogue, Turn
from builtin_pair.training.serving import open_states, think
from dami_agent.tasks.agent import agent_task
from dami_agent.tasks.questions import practice
from dami_agent.tasks.task import Operation, ToolSpec, Working

FAMILIES = ("chain", "story", "prices", "list", "work")
"""Questions with arithmetic in them, and agent tasks with working steps."""

LIMIT = 1536
"""Tokens of a thought: enough for the longest in training."""

_RESULT = re.compile(r"= (\d+)\.$")


@dataclass(frozen=True)
class Case:
    """A dialogue that ends in the reference's thought and reply, and the working written out in that thought."""

    dialogue: TrainingDialogue
    work: tuple[Working, ...]

    @property
    def asked(self) -> TrainingDialogue:
        """The dialogue without its last turn: what a checkpoint is to think about."""
        return replace(self.dialogue, turns=self.dialogue.turns[:-1])


def _question(rng: Random, family: str) -> Case:
    """Draw a training question that takes several steps, at least one of them arithmetic."""
    while True:
        item = practice(rng, family)
        if item.split == "train" and len(item.work) > 1 and any(isinstance(step, Operation) for step in item.work):
            turns = question_turns(item, "thinking", 1.0)
            return Case(TrainingDialogue(turns, (), tooling.system(rng), "thinking", family), item.work)


def _step(rng: Random) -> Case:
    """Draw a training task, up to a turn before which something must be worked out."""
    task = agent_task(rng, "work")
    while task is None or task.split != "train":
        task = agent_task(rng, "work")
    turns = task_turns(rng, task, "thinking", 1.0, partial=False)
    works = [*(tuple(step for call in group for step in call.work) for group in task.rounds), task.work]
    ends = [index + 1 for index, turn in enumerate(turns) if turn.role == "assistant"]
    end, work = rng.choice([(end, work) for end, work in zip(ends, works, strict=True) if work])
    specs = tuple(tool.spec for tool in task.tools)
    return Case(TrainingDialogue(turns[:end], specs, tooling.system(rng), "thinking", "work"), work)


def draw(rng: Random) -> Case:
    """Something to think about, of one of `FAMILIES`."""
    family = rng.choice(FAMILIES)
    return _step(rng) if family == "work" else _question(rng, family)


def _first_wrong(work: Sequence[Working], lines: Sequence[str], right: Sequence[str]) -> tuple[int, int] | None:
    """(step, result it says) of the first line with a wrong result; None if there is none or another thing is wrong.

    `right` has a line for every step of `work` and perhaps a heading before them.
    """
    heading = len(right) - len(work)
    if len(lines) != len(right) or any(not line.startswith(("We have ", thoughts.OPENING)) for line in lines[:heading]):
        return None
    for index, step in enumerate(work):
        line = lines[heading + index]
        if not isinstance(step, Operation):
            if line != right[heading + index]:
                return None
            continue
        found = _RESULT.search(line)
        if found is None:
            return None
        if (said := int(found[1])) != step.result:
            return (index, said) if step.symbol != "+" or said >= step.right else None
    return None


def find(case: Case, thought: str) -> TrainingDialogue | None:
    """Return the first wrong line of a thought that has a line for every step and then a check, as a document.

    The lines up to the check are the checkpoint's own and context; the check and what mends the mistake are learned.
    """
    reference = case.dialogue.turns[-1]
    written = thoughts.worked(case.work, 1.0)
    before, _, after = str(reference.thought).partition(written)
    body, check, _ = thought.removeprefix(before).partition("\nCheck:")
    if not check or not thought.startswith(before):
        return None
    right = written.partition("\nCheck:")[0].split("\n")
    wrong = _first_wrong(case.work, body.split("\n"), right)
    if wrong is None:
        return None
    going_on = thoughts.revised(case.work, *wrong)
    turn = replace(reference, given=f"{before}{body}\n", thought=f"{going_on}{after}")
    context = [replace(each, learn=False) for each in case.dialogue.turns[:-1]]
    return replace(case.dialogue, turns=[*context, turn])


def collect(
    state: State,
    tokenizer: Tokenizer,
    *,
    count: int,
    temperature: float = 1.0,
    seed: int = 0,
    device: str = "auto",
) -> list[TrainingDialogue]:
    """Think about `count` questions and steps, and keep the self_mistakes.

    Args:
        state: the checkpoint that thinks.
        tokenizer: its own.
        count: how many things it thinks about.
        temperature: of its thoughts.
        seed: of what it thinks about, and of its random streams.
        device: a torch device, or `auto`.
    """
    rng = Random(f"slips:{seed}")
    cases = [draw(rng) for _ in range(count)]
    asked = [case.asked for case in cases]
    with open_states(state, state, tokenizer, device=device) as session:
        written = think(session, tokenizer, asked, temperature=temperature, limit=LIMIT, seed=seed)
    found = [find(case, thought) for case, thought in zip(cases, written, strict=True)]
    return [mistake for mistake in found if mistake is not None]


def write(path: Path, self_mistakes: Sequence[TrainingDialogue]) -> None:
    """Write one JSON line for each mistake."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(mistake)) + "\n" for mistake in self_mistakes), encoding="utf-8")


def read(path: Path) -> list[TrainingDialogue]:
    """Return the documents of a file that `write` wrote."""
    return [_dialogue(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _dialogue(row: dict[str, Any]) -> TrainingDialogue:
    turns = [Turn(**{**turn, "calls": tuple((name, given) for name, given in turn["calls"])}) for turn in row["turns"]]
    return TrainingDialogue(**{**row, "turns": turns, "tools": tuple(ToolSpec(**spec) for spec in row["tools"])})
