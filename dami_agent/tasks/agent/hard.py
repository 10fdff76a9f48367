"""Tasks of which most steps route, as those of real agents do, and one or two need as much working as hard questions.

A few hops lead to a person, a town or an item; a tool then answers with a whole record (`records.py`) or with numbers,
and what is asked of them takes three to some twenty operations or comparisons: before the reply, or before a further
call that takes what comes out. `AgentTask.depths` says how much each step needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from dami_agent.tasks import records
from dami_agent.tasks.agent.scene import Scene, Template, Templates
from dami_agent.tasks.agent.work import totals
from dami_agent.tasks.questions import lists
from dami_agent.tasks.records import Shape
from dami_agent.tasks.task import AgentTask, Note, Operation, Working
from dami_agent.tasks.words import an, joined, plural

Asked = tuple[str, tuple[Working, ...]]
"""The sentence that asks, and the solution."""


def _key(scene: Scene) -> str:
    """Return what the last call was really asked for: an error may have said to ask for something else."""
    return str(next(iter(scene.plan[-1].arguments.values())))


# -- how one gets there ------------------------------------------------------------------------------------------------


def _person(scene: Scene, hops: int) -> tuple[str, str]:
    """Find a person some bosses away, and how the prompt says who that is."""
    name = scene.rng.choice(scene.names.people)
    said = name
    for _ in range(hops):
        name, said = scene.look("boss_of", person=name), f"the boss of {said}"
    return name, said


def _reach(scene: Scene, what: str, hops: int) -> tuple[str, str]:
    """Find a person, town or item some calls away, and how the prompt says which; none: it is named."""
    if what == "person":
        return _person(scene, hops)
    if not hops:
        value = scene.rng.choice(scene.names.towns if what == "town" else scene.names.items)
        return value, value if what == "town" else f"the {value}"
    person, said = _person(scene, hops - 1)
    if what == "town":
        return scene.look("town_of", person=person), f"the town of {said}"
    return scene.look("ware_of", person=person), f"the item that {said} sells"


# -- what is asked of a list -------------------------------------------------------------------------------------------

_LISTS = (("list_sales", "item", "sales of {0}"), ("list_visitors", "town", "visitors of {0}"))
_UNSEEN_LIST = ("list_points", "person", "points of {0}")
_OPENINGS = ("List the {0}.", "Get the {0}.", "Look up the {0}.", "Find the {0}.")


def _of_list(scene: Scene, found: list[int]) -> Asked:
    """Ask for a sum, a count or a range of a list, of a short one also for an end."""
    rng = scene.rng
    choices: list[Callable[..., lists.Kind]] = [lists.total]
    if len(found) > 5:
        choices += [lists.above, lists.span]
    else:
        choices += [lists.total, lists.largest, lists.smallest, lists.span]
    ask, work, _ = rng.choice(choices)(rng, found)
    return ask, work


def _list(scene: Scene, tools: Sequence[tuple[str, str, str]] = _LISTS) -> AgentTask | None:
    """Lead to a list of numbers: what they add up to, how many are above, how far apart they are."""
    rng = scene.rng
    rows = scene.length((4, 5, 5, 5, 8, 9), records.HELD_LENGTH)
    scene.shape = Shape(rows, rng.choice((60, 99)) if rows <= 5 else rng.choice((99, 300, 999)))
    tool, key, phrase = rng.choice(tools)
    value, said = _reach(scene, key, rng.choice((0, 1, 1, 2, 2)))
    scene.each(tool, key, [value])
    found = [int(each) for each in scene.plan[-1].result.split(", ")]
    ask, work = _of_list(scene, found)
    opening = rng.choice(_OPENINGS).format(phrase.format(said))
    return scene.task("hard", "list", f"{opening} {ask}", (), work)


def _points(scene: Scene) -> AgentTask | None:
    """Take a list from a tool that no training task has. Never in training."""
    task = _list(scene, [_UNSEEN_LIST])
    return None if task is None else replace(task, name="points")


# -- bills from a price list -------------------------------------------------------------------------------------------


def _bill(scene: Scene) -> AgentTask | None:
    """Lead to a town and its price list: what so many of some things cost there."""
    rng = scene.rng
    count = scene.length((1, 2, 2), 3)
    rows = max(3, count)
    scene.shape = Shape(rng.choice([each for each in (3, 4, 5) if each >= rows]), 60)
    town, said = _reach(scene, "town", rng.choice((0, 1, 1, 2)))
    scene.look("price_list", town=town)
    costs = _priced(scene.plan[-1].result)
    if len(costs) < count:
        return None
    chosen = rng.sample(list(costs), count)
    top = 49 if count == 1 else 9
    counts = [rng.randint(12, 49) if count == 1 else rng.randint(2, top) for _ in chosen]
    found = [Note(str(costs[item]), f"{an(item)} costs {costs[item]}") for item in chosen]
    work = totals([note.value for note in found], counts)
    more, text = scene.changes(work[-1].result, "bill", (0, 2, 3) if count > 1 else (0, 0, 1, 2))
    bought = joined([f"{many} {plural(item)}" for many, item in zip(counts, chosen, strict=True)])
    forms = (
        f"Read the price list of {said}. We buy {bought} there.{text} How much do we pay?",
        f"We buy {bought} in {said}.{text} Find the price list there: how much do we pay?",
    )
    return scene.task("hard", "bill", rng.choice(forms), (), [*found, *work, *more])


def _priced(text: str) -> dict[str, int]:
    """Read `Prices: lamp 17 euros, pen 4 euros.` as a mapping."""
    listed = text.removeprefix("Prices: ").removesuffix(".").split(", ")
    return {words[0]: int(words[1]) for words in (each.rsplit(" ", 2) for each in listed)}


# -- tables, passes and lines of people: no arithmetic -----------------------------------------------------------------

_THEN = {
    "town_of": ("person", "the town"),
    "find_extension": ("person", "the extension"),
    "boss_of": ("person", "the boss"),
    "ware_of": ("person", "the item"),
}
"""What can be asked of a person that was found: the argument, and how it is said."""


def _then(scene: Scene, person: str, work: tuple[Working, ...], prompt: str, who: str, name: str) -> AgentTask | None:
    """Make the task with a call that takes the person who was worked out, or with that person as the answer."""
    rng = scene.rng
    if rng.random() < 0.4:
        return scene.task("hard", name, f"{prompt} {who[0].upper()}{who[1:]}?", (), work)
    tool = rng.choice(tuple(_THEN))
    key, said = _THEN[tool]
    found = scene.look(tool, work, **{key: person})
    forms = (f"{prompt} Find out {who}. I need {said} of that person.", f"{prompt} I need {said} of the one {who}.")
    return scene.task("hard", name, rng.choice(forms), [found])


def _table(scene: Scene) -> AgentTask | None:
    """Lead to a town and the table of its desks, read backwards; perhaps a call takes the person."""
    rng = scene.rng
    scene.shape = Shape(scene.length((4, 5, 7), records.HELD_ROWS))
    town, said = _reach(scene, "town", rng.choice((1, 1, 2)))
    scene.look("show_desks", town=town)
    rows = records.desks(scene.world, scene.shape, scene.names, _key(scene))
    chosen = rng.randrange(1, len(rows))
    row = rows[chosen]
    work = (
        *(Note(each.name, f"{each.name} has {each.room}, not {row.room}") for each in rows[:chosen]),
        Note(row.name, f"{row.name} has {row.room}"),
        Note(row.name, f"that is {row.name}"),
    )
    prompt = rng.choice((f"Show the desks in {said}.", f"Look at the desks in {said}."))
    return _then(scene, row.name, work, prompt, f"who is in room {row.room}", "table")


def _log(scene: Scene) -> AgentTask | None:
    """Lead to an item and who passes it to whom: who has it in the end; perhaps a call takes that person."""
    rng = scene.rng
    hops = scene.length((2, 3, 5, 5), 4)
    scene.shape = Shape(max(hops + 1, rng.choice((4, 5, 6))))
    item, said = _reach(scene, "item", rng.choice((1, 1, 2)))
    scene.look("pass_log", item=item)
    told = records.passes(scene.world, scene.shape, scene.names, _key(scene))
    after = dict(told)
    holders = list(accumulate(range(hops), lambda holder, _: after[holder], initial=told[0][0]))
    work = [Note(new, f"{hops - done} left, {old} to {new}") for done, (old, new) in enumerate(pairwise(holders))]
    work[-1] = Note(work[-1].value, work[-1].line, "0 left")
    prompt = f"Find out who passes {said} to whom. {told[0][0]} has it first."
    return _then(scene, holders[-1], tuple(work), prompt, f"who has it after {hops} passes", "log")


def _line(scene: Scene) -> AgentTask | None:
    """Lead to a town and who is shorter than whom there: who is the tallest; perhaps a call takes them."""
    rng = scene.rng
    scene.shape = Shape(scene.length((4, 5, 7), records.HELD_ROWS))
    town, said = _reach(scene, "town", rng.choice((1, 1, 2)))
    scene.look("line_up", town=town)
    line, facts = records.heights(scene.world, scene.shape, scene.names, _key(scene))
    start = line.index(facts[0].split(" is ")[0])
    climb = [(line[index], line[index - 1]) for index in range(start, 0, -1)]
    work = [Note(above, f"{below} is shorter than {above}") for below, above in climb]
    work.append(Note(line[0], f"{line[0]} is the tallest"))
    prompt = rng.choice((f"See who is shorter than whom in {said}.", f"Line up the team of {said}."))
    return _then(scene, line[0], tuple(work), prompt, "who is the tallest", "line")


# -- several results, and long chains ----------------------------------------------------------------------------------

_COMPARED = (
    ("ticket_fare", "fares"),
    ("read_temperature", "temperatures"),
    ("next_train", "numbers of the next trains"),
)


def _compare(scene: Scene) -> AgentTask | None:
    """Find the towns of some people, then a number of each: their sum, the largest, how far apart."""
    rng, scene.shape = scene.rng, Shape()
    chosen = rng.sample(scene.names.people, scene.length((3, 3, 5), 4))
    towns = scene.each("town_of", "person", chosen)
    if len(set(towns)) < len(towns):
        return None
    tool, said = rng.choice(_COMPARED)
    found = [int(each) for each in scene.each(tool, "town", towns)]
    if len(set(found)) < len(found):
        return None
    choices = (lists.span, lists.largest, *((lists.total, lists.total) if len(found) > 3 else ()))
    ask, work, _ = rng.choice(choices)(rng, found)
    prompt = f"Find the towns of {joined(chosen)}, then the {said} to all of them."
    if tool == "read_temperature":
        prompt = prompt.replace(" to all", " in all")
    return scene.task("hard", "compare", f"{prompt} {ask}", (), work)


def _order(scene: Scene) -> AgentTask | None:
    """Find somebody's item and its price: what so many cost, and what changes the bill then."""
    rng = scene.rng
    scene.shape = Shape()
    item, said = _reach(scene, "item", rng.choice((0, 1, 1, 2)))
    price = int(scene.look("get_price", item=item))
    first = Operation(price, "*", rng.randint(12, 49))
    more, text = scene.changes(first.result, "bill", (0, 1, 2, 3))
    forms = (
        f"We order {first.right} pieces of {said}.{text} Find the price: how much do we pay?",
        f"Find the price of {said}. We buy {first.right} of them.{text} How much do we pay?",
    )
    return scene.task("hard", "order", rng.choice(forms), (), [first, *more])


def _seats(scene: Scene) -> AgentTask | None:
    """Find the seats in the room of somebody's extension, and work out much that changes them."""
    rng, scene.shape = scene.rng, Shape()
    person, said = _person(scene, rng.choice((0, 0, 1)))
    room = scene.look("room_of", extension=int(scene.look("find_extension", person=person)))
    seats = int(scene.look("seats_in", room=int(room)))
    work, text = scene.changes(seats, "seats", (3, 5, 5, 7))
    prompt = f"Count the seats in the room of the extension of {said}.{text} How many seats are free?"
    return scene.task("hard", "seats", prompt, (), work)


def _fares(scene: Scene) -> AgentTask | None:
    """Find what the train to some people's towns costs for a group each. Never in training."""
    rng, scene.shape = scene.rng, Shape()
    chosen = rng.sample(scene.names.people, rng.choice((2, 2, 4)))
    towns = scene.each("town_of", "person", chosen)
    if len(set(towns)) < len(towns):
        return None
    counts = [rng.randint(3, 9) for _ in towns]
    work = totals(scene.each("ticket_fare", "town", towns), counts)
    said = joined([f"{count} tickets to the town of {name}" for count, name in zip(counts, chosen, strict=True)])
    return scene.task("hard", "fares", f"We need {said}. How much is that together?", (), work)


HARD: Templates = {
    "list": Template(_list, 2.4),
    "bill": Template(_bill, 1.6),
    "table": Template(_table, 1.0),
    "log": Template(_log, 1.0),
    "line": Template(_line, 0.8),
    "compare": Template(_compare, 1.2),
    "order": Template(_order, 1.6),
    "seats": Template(_seats, 1.4),
    "points": Template(_points, held=True),
    "fares": Template(_fares, held=True),
}
