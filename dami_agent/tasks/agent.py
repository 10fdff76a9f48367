"""Agent tasks over the catalogue: some only route (call and copy), some must be worked out.

`agent_tasks(split, count, seed=)` is the public door; equal arguments give equal tasks. Which split a task belongs to
is decided by its prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random
from typing import Literal

from dami_agent.tasks.catalogue import CATALOGUE, Lookup, World
from dami_agent.tasks.model import AgentTask, Operation, PlannedCall, Split
from dami_agent.tasks.words import DISHES, ITEMS, PEOPLE, TOWNS, joined, plural

Kind = Literal["route", "work"]
MOST_TOOLS = 3


def agent_tasks(
    split: Split, count: int, *, seed: int = 0, kinds: tuple[Kind, ...] = ("route", "work")
) -> list[AgentTask]:
    """`count` different tasks of one split, kinds in turn."""
    found: dict[str, AgentTask] = {}
    for task in stream(split, seed=seed, kinds=kinds):
        found.setdefault(task.prompt, task)
        if len(found) >= count:
            return list(found.values())
    raise AssertionError("the stream of tasks is endless")


def stream(split: Split, *, seed: int, kinds: tuple[Kind, ...] = ("route", "work")) -> Iterator[AgentTask]:
    """Tasks of one split without end; prompts may repeat."""
    rng = Random(f"agent:{split}:{seed}")
    while True:
        for kind in kinds:
            task = agent_task(rng, kind)
            while task is None or task.split != split:
                task = agent_task(rng, kind)
            yield task


def agent_task(rng: Random, kind: Kind, name: str | None = None) -> AgentTask | None:
    """One task, or None if the drawn numbers left their range; `name` picks the template."""
    world = World(rng.getrandbits(32))
    table = ROUTE if kind == "route" else WORK
    chosen = name or rng.choice(tuple(table))
    return table[chosen](rng, world)


# -- building blocks -------------------------------------------------------------------------------------------------


def _planned(world: World, lookup: Lookup, work: tuple[Operation, ...] = ()) -> PlannedCall:
    return PlannedCall(lookup.tool, lookup.arguments, CATALOGUE[lookup.tool].run(world, **lookup.arguments), work)


def _task(
    rng: Random, world: World, kind: Kind, name: str, prompt: str, plan: list[PlannedCall], work: list[Operation]
) -> AgentTask | None:
    """Binds the tools the plan needs and distractors up to three; refuses values out of range."""
    if any(not 0 <= step.result <= 200 for step in [*work, *(step for call in plan for step in call.work)]):
        return None
    needed = list(dict.fromkeys(call.name for call in plan))
    spare = [tool for tool in CATALOGUE if tool not in needed]
    bound = needed + rng.sample(spare, rng.randint(0, MOST_TOOLS - len(needed)))
    rng.shuffle(bound)
    tools = tuple(CATALOGUE[tool].bind(world) for tool in bound)
    answers = (str(work[-1].result),) if work else tuple(call.result for call in plan)
    if not work and name in _LAST_ONLY:
        answers = answers[-1:]
    reply = f"The answer is {answers[0]}." if len(answers) == 1 else f"The answers are {joined(answers)}."
    return AgentTask(kind, name, prompt, tools, tuple(plan), answers, tuple(work), reply)


_LAST_ONLY = ("chained", "packs")


def _lookup(tool: str, phrase: str = "", **arguments: object) -> Lookup:
    return Lookup(tool, arguments, phrase)


# -- route -----------------------------------------------------------------------------------------------------------


def _single(rng: Random, world: World) -> AgentTask | None:
    lookup = rng.choice(tuple(CATALOGUE.values())).ask(rng)
    prompt = rng.choice(("What is {0}?", "Tell me {0}.", "Find {0}.", "I need {0}.", "Please look up {0}.")).format(
        lookup.phrase
    )
    return _task(rng, world, "route", "single", prompt, [_planned(world, lookup)], [])


def _several(rng: Random, world: World) -> AgentTask | None:
    kinds = tuple(CATALOGUE.values())
    chosen = rng.sample(kinds, 2) if rng.random() < 0.6 else [rng.choice(kinds[:10])] * rng.choice((2, 2, 3))
    lookups = [kind.ask(rng) for kind in chosen]
    if len({lookup.phrase for lookup in lookups}) < len(lookups):
        return None
    prompt = rng.choice(("What are {0}?", "Tell me {0}.", "Find {0}.", "I need {0}.")).format(
        joined([lookup.phrase for lookup in lookups])
    )
    return _task(rng, world, "route", "several", prompt, [_planned(world, lookup) for lookup in lookups], [])


def _tour(rng: Random, world: World) -> AgentTask | None:
    """The same lookup for three to five towns or items."""
    count = rng.randint(3, 5)
    if rng.random() < 0.5:
        towns = rng.sample(TOWNS, count)
        tool, word = rng.choice((("read_temperature", "temperature in"), ("ticket_fare", "fare to")))
        lookups = [_lookup(tool, town=town) for town in towns]
        prompt = f"List the {word} {joined(towns)}."
    else:
        items = rng.sample(ITEMS, count)
        tool, word = rng.choice((("get_price", "price"), ("get_stock", "stock")))
        lookups = [_lookup(tool, item=item) for item in items]
        prompt = f"List the {word} of these: {joined(items)}."
    return _task(rng, world, "route", "tour", prompt, [_planned(world, lookup) for lookup in lookups], [])


def _chained(rng: Random, world: World) -> AgentTask | None:
    """The second call takes what the first one said."""
    person = rng.choice(PEOPLE)
    first = _planned(world, _lookup("find_extension", person=person))
    second = _planned(world, _lookup("room_of", extension=int(first.result)))
    prompt = rng.choice(
        (
            f"In which room does {person} sit? Find the extension of {person} first, then its room.",
            f"Find the extension of {person}, then tell me the room of that extension.",
        )
    )
    return _task(rng, world, "route", "chained", prompt, [first, second], [])


# -- work ------------------------------------------------------------------------------------------------------------


def _basket(rng: Random, world: World) -> AgentTask | None:
    """Two or three items, so many of each, perhaps a coupon."""
    items = rng.sample(ITEMS, rng.choice((2, 2, 3)))
    counts = [rng.randint(2, 5) for _ in items]
    plan = [_planned(world, _lookup("get_price", item=item)) for item in items]
    work = [Operation(int(call.result), "*", count) for call, count in zip(plan, counts, strict=True)]
    total = work[0].result
    for part in work[1 : len(items)]:
        work.append(Operation(total, "+", part.result))
        total += part.result
    bought = joined([f"{count} {plural(item)}" for count, item in zip(counts, items, strict=True)])
    prompt = rng.choice((f"What do {bought} cost together?", f"I want to buy {bought}. How much is that?"))
    if rng.random() < 0.5:
        coupon = rng.randint(2, 20)
        work.append(Operation(total, "-", coupon))
        prompt = f"I want to buy {bought} and have a coupon of {coupon}. How much do I pay?"
    return _task(rng, world, "work", "basket", prompt, plan, work)


def _sale(rng: Random, world: World) -> AgentTask | None:
    """What is left in stock after sales and deliveries."""
    item = rng.choice(ITEMS)
    plan = [_planned(world, _lookup("get_stock", item=item))]
    value, work, parts = int(plan[0].result), [], []
    for _ in range(rng.randint(3, 5)):
        number = rng.randint(2, 30)
        symbol: Literal["+", "-"] = rng.choice(("+", "-"))
        work.append(Operation(value, symbol, number))
        value = work[-1].result
        parts.append(f"{number} {'come in' if symbol == '+' else 'are sold'}")
    things = plural(item)
    prompt = f"Look up the stock of {things}. Then {', then '.join(parts)}. How many {things} are there at the end?"
    return _task(rng, world, "work", "sale", prompt, plan, work)


def _trip(rng: Random, world: World) -> AgentTask | None:
    """A way over several towns, perhaps there and back, and a detour."""
    towns = rng.sample(TOWNS, rng.choice((3, 3, 4)))
    plan = [_planned(world, _lookup("get_distance", start=a, end=b)) for a, b in pairwise(towns)]
    total, work = int(plan[0].result), []
    for call in plan[1:]:
        work.append(Operation(total, "+", int(call.result)))
        total = work[-1].result
    detour = rng.randint(3, 20)
    work.append(Operation(total, "+", detour))
    prompt = f"We drive from {', then to '.join(towns)}, with a detour of {detour} km. How many km is that?"
    if total + detour <= 100 and rng.random() < 0.7:
        work.append(Operation(total + detour, "*", 2))
        prompt = (
            f"We drive from {', then to '.join(towns)}, with a detour of {detour} km, two times. How many km is that?"
        )
    return _task(rng, world, "work", "trip", prompt, plan, work)


def _purse(rng: Random, world: World) -> AgentTask | None:
    """What is left of the budget after buying items and a train ticket."""
    item, town, count = rng.choice(ITEMS), rng.choice(TOWNS), rng.randint(2, 5)
    lookups = [_lookup("get_budget"), _lookup("get_price", item=item), _lookup("ticket_fare", town=town)]
    plan = [_planned(world, lookup) for lookup in lookups]
    budget, price, fare = (int(call.result) for call in plan)
    spent = Operation(price, "*", count)
    left = Operation(budget, "-", spent.result)
    work = [spent, left, Operation(left.result, "-", fare)]
    prompt = f"From our budget we pay {count} {plural(item)} and the train fare to {town}. How much is left?"
    return _task(rng, world, "work", "purse", prompt, plan, work)


def _group(rng: Random, world: World) -> AgentTask | None:
    """Seats on two trains, less groups that book them."""
    trains = rng.sample(range(10, 100), 2)
    plan = [_planned(world, _lookup("free_seats", train=train)) for train in trains]
    total = Operation(int(plan[0].result), "+", int(plan[1].result))
    groups = [rng.randint(3, 25) for _ in range(rng.randint(1, 3))]
    work = [total]
    for size in groups:
        work.append(Operation(work[-1].result, "-", size))
    prompt = (
        f"How many free seats do trains {trains[0]} and {trains[1]} have together after "
        f"{joined([f'a group of {size}' for size in groups])} book?"
    )
    return _task(rng, world, "work", "group", prompt, plan, work)


def _kitchen(rng: Random, world: World) -> AgentTask | None:
    """How much two dishes weigh for a number of people."""
    dishes, people = rng.sample(DISHES, 2), [rng.randint(2, 5) for _ in range(2)]
    plan = [_planned(world, _lookup("portion_weight", dish=dish)) for dish in dishes]
    work = [Operation(int(call.result), "*", count) for call, count in zip(plan, people, strict=True)]
    work.append(Operation(work[0].result, "+", work[1].result))
    prompt = f"How much do {people[0]} portions of {dishes[0]} and {people[1]} portions of {dishes[1]} weigh together?"
    return _task(rng, world, "work", "kitchen", prompt, plan, work)


def _packs(rng: Random, world: World) -> AgentTask | None:
    """Something must be worked out before the last call: the amount it converts."""
    item, unit = rng.choice(ITEMS), "dozens"
    first = _planned(world, _lookup("get_stock", item=item))
    sold, more = rng.randint(5, 30), rng.randint(2, 15)
    work = (Operation(int(first.result), "-", sold), Operation(int(first.result) - sold, "+", more))
    second = _planned(world, _lookup("convert_units", amount=work[-1].result, unit=unit), work)
    prompt = (
        f"The stock of {plural(item)} is counted in {unit}. {sold} are sold, then {more} come in. "
        f"Convert what is left from {unit}."
    )
    return _task(rng, world, "work", "packs", prompt, [first, second], []) if second.result else None


Template = Callable[[Random, World], AgentTask | None]
ROUTE: dict[str, Template] = {"single": _single, "several": _several, "tour": _tour, "chained": _chained}
WORK: dict[str, Template] = {"basket": _basket, "sale": _sale, "trip": _trip, "purse": _purse, "group": _group}
WORK |= {"kitchen": _kitchen, "packs": _packs}
