"""Tasks with working steps after one round of lookups; `deep.py` has those that work between the calls."""

from __future__ import annotations

from itertools import pairwise

from dami_agent.tasks.agent.scene import IN_TURN, Scene, Template, Templates, lookup, running
from dami_agent.tasks.model import AgentTask, Operation
from dami_agent.tasks.words import DISHES, joined, plural


def _totals(results: list[str], counts: list[int]) -> list[Operation]:
    """Each result so many times, then all together."""
    parts = [Operation(int(result), "*", count) for result, count in zip(results, counts, strict=True)]
    return [*parts, *running(parts[0].result, [part.result for part in parts[1:]], "+")]


def _basket(scene: Scene) -> AgentTask | None:
    """Two or four things, so many of each, perhaps a coupon."""
    rng = scene.rng
    items = rng.sample(scene.names.items, scene.length((1, 2, 2, 4), 3))
    counts, in_turn = [rng.randint(2, 9) for _ in items], len(items) > 1 and scene.in_turn()
    work = _totals(scene.each("get_price", "item", items, in_turn=in_turn), counts)
    bought = joined([f"{count} {plural(item)}" for count, item in zip(counts, items, strict=True)])
    prompt = rng.choice((f"What do {bought} cost together?", f"I want to buy {bought}. How much is that?"))
    if len(items) == 1:
        prompt = f"What do {bought} cost?"
    if rng.random() < 0.5:
        coupon = rng.randint(2, 30)
        work.append(Operation(work[-1].result, "-", coupon))
        prompt = f"I want to buy {bought} and have a coupon of {coupon}. How much do I pay?"
    return scene.task("work", "basket", prompt + (IN_TURN if in_turn else ""), (), work)


def _sale(scene: Scene) -> AgentTask | None:
    """What is left in stock after sales and deliveries."""
    rng = scene.rng
    item = rng.choice(scene.names.items)
    value, work, parts = int(scene.look("get_stock", item=item)), list[Operation](), list[str]()
    for _ in range(scene.length((1, 2, 3, 5), 4)):
        number, more = rng.randint(2, rng.choice((30, 30, 200))), rng.random() < 0.5
        work.append(Operation(value, "+" if more else "-", number))
        value = work[-1].result
        parts.append(f"{number} {'come in' if more else 'are sold'}")
    things = plural(item)
    prompt = f"Look up the stock of {things}. Then {', then '.join(parts)}. How many {things} are there at the end?"
    return scene.task("work", "sale", prompt, (), work)


def _trip(scene: Scene) -> AgentTask | None:
    """A way over several towns, with a detour, perhaps many times."""
    rng = scene.rng
    towns = rng.sample(scene.names.towns, scene.length((2, 3, 3, 5), 4))
    in_turn = len(towns) > 2 and scene.in_turn(0.4)
    ways = scene.all_of([lookup("get_distance", start=a, end=b) for a, b in pairwise(towns)], in_turn=in_turn)
    detour = rng.randint(3, 20)
    work = running(int(ways[0]), [*(int(way) for way in ways[1:]), detour], "+")
    prompt = f"We drive from {', then to '.join(towns)}, with a detour of {detour} km"
    if rng.random() < 0.4:
        times = rng.choice((2, 2, 3, 4))
        work.append(Operation(work[-1].result, "*", times))
        prompt += f", {times} times"
    prompt += ". How many km is that?" + (IN_TURN if in_turn else "")
    return scene.task("work", "trip", prompt, (), work)


def _purse(scene: Scene) -> AgentTask | None:
    """What is left of the budget after buying things and a train ticket."""
    rng = scene.rng
    item, town, count = rng.choice(scene.names.items), rng.choice(scene.names.towns), rng.randint(2, 9)
    wanted, in_turn = (
        [lookup("get_budget"), lookup("get_price", item=item), lookup("ticket_fare", town=town)],
        scene.in_turn(),
    )
    budget, price, fare = (int(result) for result in scene.all_of(wanted, in_turn=in_turn))
    spent = Operation(price, "*", count)
    left = Operation(budget, "-", spent.result)
    prompt = f"From our budget we pay {count} {plural(item)} and the train fare to {town}. How much is left?"
    prompt += IN_TURN if in_turn else ""
    return scene.task("work", "purse", prompt, (), [spent, left, Operation(left.result, "-", fare)])


def _group(scene: Scene) -> AgentTask | None:
    """Seats on some trains, less groups that book them."""
    rng = scene.rng
    trains = rng.sample(range(10, 100), scene.length((2, 2, 3), 4))
    in_turn = scene.in_turn()
    seats = [int(result) for result in scene.each("free_seats", "train", trains, in_turn=in_turn)]
    groups = [rng.randint(3, 25) for _ in range(rng.randint(1, 3))]
    work = running(seats[0], seats[1:], "+")
    work += running(work[-1].result, groups, "-")
    prompt = (
        f"How many free seats do trains {joined([str(train) for train in trains])} have together after "
        f"{joined([f'a group of {size}' for size in groups])} book?" + (IN_TURN if in_turn else "")
    )
    return scene.task("work", "group", prompt, (), work)


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
    dishes = rng.sample(DISHES, rng.choice((2, 3)))
    people = [rng.randint(2, 5) for _ in dishes]
    work = _totals(scene.each("portion_weight", "dish", dishes), people)
    portions = joined([f"{count} portions of {dish}" for count, dish in zip(people, dishes, strict=True)])
    return scene.task("work", "kitchen", f"How much do {portions} weigh together?", (), work)


AFTER: Templates = {
    "basket": Template(_basket, 1.4),
    "sale": Template(_sale, 1.2),
    "trip": Template(_trip, 1.4),
    "purse": Template(_purse),
    "group": Template(_group, 1.2),
    "warmer": Template(_warmer, 0.6),
    "kitchen": Template(_kitchen, held=True),
}
