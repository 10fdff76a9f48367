"""Agent tasks of 2 to 6 model turns: some only route (call and copy), some must be worked out, some have new tools.

`agent_tasks(split, count, seed=)` is the public door; equal arguments give equal tasks. Which split a task belongs to
is decided by its prompt. Lookups that do not depend on each other are made together in one turn, unless the prompt says
"one after the other" or "first ..., then ...". With `unseen=` every task has a template, names or a length that
training never shows; without it, none has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Literal

from dami_agent.tasks.agent.deep import BETWEEN
from dami_agent.tasks.agent.hard import HARD
from dami_agent.tasks.agent.route import ROUTE
from dami_agent.tasks.agent.scene import LARGEST, MOST_TOOLS, Scene, Template, Templates
from dami_agent.tasks.agent.work import AFTER
from dami_agent.tasks.novel import novel_task
from dami_agent.tasks.questions.sizes import Unseen
from dami_agent.tasks.task import AgentTask, Split, another
from dami_agent.tasks.world import HELD, SEEN, Names, World

Kind = Literal["route", "work", "hard", "novel"]
WORK: Templates = {**AFTER, **BETWEEN}
_TABLES: Mapping[str, Templates] = {"route": ROUTE, "work": WORK, "hard": HARD}
_HELD_WORDS = (*HELD.people, *HELD.items, *HELD.towns)

__all__ = ["LARGEST", "MOST_TOOLS", "ROUTE", "WORK", "Kind", "Template", "agent_task", "agent_tasks", "stream"]


def agent_tasks(
    split: Split,
    count: int,
    *,
    seed: int = 0,
    kinds: tuple[Kind, ...] = ("route", "work"),
    unseen: Unseen | None = None,
) -> list[AgentTask]:
    """Draw `count` different tasks of one split, kinds in turn.

    Args:
        split: the split that everything drawn belongs to.
        count: how many.
        seed: equal seeds draw the same.
        kinds: kinds of tasks, in turn.
        unseen: what training never shows of it; None for nothing.

    Raises:
        UsageError: there are fewer.
    """
    drawn, found = stream(split, seed=seed, kinds=kinds, unseen=unseen), dict[str, AgentTask]()
    while len(found) < count:
        task = another(drawn, found, f"the {split} split", "tasks")
        found[task.prompt] = task
    return list(found.values())


def stream(
    split: Split, *, seed: int, kinds: tuple[Kind, ...] = ("route", "work"), unseen: Unseen | None = None
) -> Iterator[AgentTask]:
    """Yield tasks of one split without end; prompts may repeat.

    Args:
        split: the split that everything drawn belongs to.
        seed: equal seeds draw the same.
        kinds: kinds of tasks, in turn.
        unseen: what training never shows of it; None for nothing. It leaves out `novel`, whose tools are all unseen.
    """
    rng = Random(f"agent:{split}:{seed}:{unseen or ''}")
    chosen = [kind for kind in kinds if unseen is None or kind != "novel"]
    while chosen:
        for kind in chosen:
            if kind == "novel":
                yield novel_task(rng, split)
                continue
            task = agent_task(rng, kind, unseen=unseen)
            while task is None or task.split != split:
                task = agent_task(rng, kind, unseen=unseen)
            yield task


def agent_task(
    rng: Random, kind: Kind, name: str | None = None, *, unseen: Unseen | None = None, names: Names | None = None
) -> AgentTask | None:
    """Draw one task over the catalogue; None if what was drawn does not fit.

    `names` is what it talks about, at least five of each; unseen names are never replaced.

    Args:
        rng: the random stream.
        kind: whose templates are drawn from.
        name: name of the template; None draws one.
        unseen: what training never shows of it; None for nothing.
        names: the people, things and towns it talks about.
    """
    table = _TABLES[kind]
    if name is None:
        drawn = [each for each, template in table.items() if template.held == (unseen == "template")]
        name = rng.choices(drawn, [table[each].weight for each in drawn])[0]
    scene = Scene(rng, World(rng.getrandbits(32)), unseen, names or SEEN)
    task = table[name].draw(scene)
    if unseen == "length" and not scene.used_length:
        return None
    if task and unseen == "name" and not any(word in task.prompt for word in _HELD_WORDS):
        return None
    return task
