"""Tasks with working steps after one round of lookups; `deep.py` has those that work between the calls."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dami_agent.tasks.agent.scene import IN_TURN, Scene, Template, Templates, lookup, running
from dami_agent.tasks.task import AgentTask, Operation
from dami_agent.tasks.words import DISHES, joined, plural


def totals(results: list[str], counts: list[int]) -> list[Operation]:
    """Each result so many times, then all together."""
    parts = [Operation(int(result), "*", count) for result, count in zip(results, counts, strict=True)]
    return [*parts, *running(parts[0].result, [part.result for part in parts[1:]], "+")]


def _basket(scene: Scene) -> AgentTask | None:
    """One, two or four things, so many of each, then what else changes the bill."""
    rng = scene.rng
    items = rng.sample(scene.names.items, scene.length((1, 1, 2, 2, 2, 4), 3))
    counts, in_turn = [rng.randint(2, min(9, 16 // len(items))) for _ in items], len(items) > 1 and scene.in_turn()
    work = totals(scene.each("get_price", "item", items, in_turn=in_turn), counts)
    more, text = scene.changes(work[-1].result, "bill", (0, 3, 3, 5, 5) if len(items) < 3 else (0, 1))
    bought = joined([f"{count} {plural(item)}" for count, item in zip(counts, items, strict=True)])
    prompt = f"{rng.choice(('I want to buy', 'We order', 'I need'))} {bought}.{text} How much do I pay?"
    if not more:
        prompt = rng.choice(("What do {0} cost?", "I want to buy {0}. How much is that?")).format(bought)
    return scene.task("work", "basket", prompt + (IN_TURN if in_turn else ""), (), [*work, *more])


def _sale(scene: Scene) -> AgentTask | None:
    """Return what is left in stock after sales, deliveries and all that."""
    item = scene.rng.choice(scene.names.items)
    work, text = scene.changes(int(scene.look("get_stock", item=item)), "stock")
    things = plural(item)
    prompt = f"{scene.rng.choice(('Find', 'Look up', 'Get'))} the stock of {things}.{text} How many {things} are left?"
    return scene.task("work", "sale", prompt, (), work)


def _trip(scene: Scene) -> AgentTask | None:
    """Return a way over several towns, then what makes it longer or shorter."""
    rng = scene.rng
    towns = rng.sample(scene.names.towns, scene.length((2, 3, 3, 5), 4))
    in_turn = len(towns) > 2 and scene.in_turn(0.4)
    ways = scene.all_of([lookup("get_distance", start=a, end=b) for a, b in pairwise(towns)], in_turn=in_turn)
    work = running(int(ways[0]), [int(way) for way in ways[1:]], "+")
    total = work[-1].result if work else int(ways[0])
    more, text = scene.changes(total, "way", (1, 2, 3, 5, 5, 5) if len(towns) < 4 else (1, 2, 3, 3))
    prompt = f"We drive from {', then to '.join(towns)}.{text} How many km is that?" + (IN_TURN if in_turn else "")
    return scene.task("work", "trip", prompt, (), [*work, *more])


def _purse(scene: Scene) -> AgentTask | None:
    """Return what is left of the budget after buying things and a train ticket, and what else comes in and goes."""
    rng = scene.rng
    item, town = rng.choice(scene.names.items), rng.choice(scene.names.towns)
    wanted, in_turn = (
        [lookup("get_budget"), lookup("get_price", item=item), lookup("ticket_fare", town=town)],
        scene.in_turn(),
    )
    budget, price, fare = (int(result) for result in scene.all_of(wanted, in_turn=in_turn))
    count = rng.randint(2, min(9, (budget - fare - 1) // price))
    spent = Operation(price, "*", count)
    left = Operation(budget, "-", spent.result)
    work = [spent, left, Operation(left.result, "-", fare)]
    more, text = scene.changes(work[-1].result, "money", (0, 1, 3, 3, 5))
    prompt = f"From our budget we pay {count} {plural(item)} and the train fare to {town}.{text} How much is left?"
    return scene.task("work", "purse", prompt + (IN_TURN if in_turn else ""), (), [*work, *more])


def _group(scene: Scene) -> AgentTask | None:
    """Seats on some trains together, less groups that book them, and more."""
    rng = scene.rng
    trains = rng.sample(range(10, 100), scene.length((2, 2, 3), 4))
    in_turn = scene.in_turn()
    seats = [int(result) for result in scene.each("free_seats", "train", trains, in_turn=in_turn)]
    work = running(seats[0], seats[1:], "+")
    more, text = scene.changes(work[-1].result, "seats", (1, 2, 3, 5, 5, 5))
    listed = joined([str(train) for train in trains])
    prompt = f"Count the free seats on trains {listed} together.{text} How many seats are free?"
    return scene.task("work", "group", prompt + (IN_TURN if in_turn else ""), (), [*work, *more])


def _warmer(scene: Scene) -> AgentTask | None:
    """How much more one lookup says than the other."""
    rng, names = scene.rng, scene.names
    tool, key, pool, ask = rng.choice(
        (
            ("get_price", "item", names.items, "How much more does one {0} cost than one {1}?"),
            ("get_stock", "item", names.items, "By how many is the stock of {0} above the stock of {1}?"),
            ("ticket_fare", "town", names.towns, "How much more is the fare to {0} than the fare to {1}?"),
            ("read_temperature", "town", names.towns, "By how many degrees is {0} warmer than {1}?"),
        )
    )
    values = rng.sample(pool, 2)
    first, second = (int(result) for result in scene.each(tool, key, values))
    said = [plural(each) for each in values] if tool == "get_stock" else values
    return scene.task("work", "warmer", ask.format(*said), (), [Operation(first, "-", second)])


def _kitchen(scene: Scene) -> AgentTask | None:
    """How much some dishes weigh for a number of people. Never in training."""
    rng = scene.rng
    dishes = rng.sample(DISHES, rng.choice((2, 2, 4)))
    people = [rng.randint(3, 5) for _ in dishes]
    work = totals(scene.each("portion_weight", "dish", dishes), people)
    prompt = f"How much do {portions(people, dishes)} weigh together?"
    return scene.task("work", "kitchen", prompt, (), work)


def _outing(scene: Scene) -> AgentTask | None:
    """Return the fares of some people to one town and some to another, together. Never in training."""
    rng = scene.rng
    towns = rng.sample(scene.names.towns, rng.choice((2, 2, 4)))
    people = [rng.randint(2, 5) for _ in towns]
    work = totals(scene.each("ticket_fare", "town", towns), people)
    tickets = joined([f"{count} tickets to {town}" for count, town in zip(people, towns, strict=True)])
    return scene.task("work", "outing", f"How much do {tickets} cost together?", (), work)


def _tickets(scene: Scene) -> AgentTask | None:
    """Return what some train tickets to one town cost, and what else changes that."""
    rng = scene.rng
    town, count = rng.choice(scene.names.towns), rng.randint(2, 9)
    first = Operation(int(scene.look("ticket_fare", town=town)), "*", count)
    more, text = scene.changes(first.result, "bill", (0, 3, 3, 5, 5))
    some = f"{count} {rng.choice(('', 'train '))}tickets to {town}"
    forms = (f"We need {some}.{text} How much do we pay?", f"I want to buy {some}.{text} How much is that?")
    prompt = rng.choice(forms if more else (*forms, f"How much do {some} cost?", f"What do {some} cost?"))
    return scene.task("work", "tickets", prompt, (), [first, *more])


def _load(scene: Scene) -> AgentTask | None:
    """How heavy some portions of one dish are, and what else changes that."""
    rng = scene.rng
    dish, count = rng.choice(DISHES), rng.randint(2, 6)
    first = Operation(int(scene.look("portion_weight", dish=dish)), "*", count)
    more, text = scene.changes(first.result, "weight", (0, 1, 2, 3, 5))
    some = portions([count], [dish])
    forms = (f"We carry {some}.{text} How heavy is that?", f"Take {some}.{text} What does it weigh?")
    prompt = rng.choice(forms if more else (*forms, f"How much do {some} weigh?", f"What do {some} weigh?"))
    return scene.task("work", "load", prompt, (), [first, *more])


def _stores(scene: Scene) -> AgentTask | None:
    """Return the stocks of two or three things, or the seats in rooms, together, and what changes them."""
    rng = scene.rng
    count = rng.choice((2, 2, 3))
    if rng.random() < 0.6:
        items = rng.sample(scene.names.items, count)
        found, listed = scene.each("get_stock", "item", items), f"the stock of {joined([plural(i) for i in items])}"
        what, ask = "stock", "How many are left?"
    else:
        rooms = rng.sample(range(1, 100), count)
        found, listed = scene.each("seats_in", "room", rooms), f"the seats in rooms {joined([str(r) for r in rooms])}"
        what, ask = "seats", "How many seats are free?"
    work = running(int(found[0]), [int(each) for each in found[1:]], "+")
    more, text = scene.changes(work[-1].result, what, (0, 1, 2, 3, 5))
    forms = (f"Add up {listed}.{text}", f"Find {listed} and put them together.{text}")
    prompt = rng.choice(forms) + (f" {ask}" if more else "")
    return scene.task("work", "stores", prompt, (), [*work, *more])


def portions(counts: Sequence[int], dishes: Sequence[str]) -> str:
    """`3 portions of soup and 2 portions of pie`."""
    return joined([f"{count} portions of {dish}" for count, dish in zip(counts, dishes, strict=True)])


AFTER: Templates = {
    "basket": Template(_basket, 1.4),
    "sale": Template(_sale, 1.2),
    "trip": Template(_trip, 1.4),
    "purse": Template(_purse),
    "group": Template(_group, 1.2),
    "warmer": Template(_warmer, 0.3),
    "load": Template(_load, 0.6),
    "tickets": Template(_tickets, 0.5),
    "stores": Template(_stores, 0.7),
    "kitchen": Template(_kitchen, held=True),
    "outing": Template(_outing, held=True),
}
