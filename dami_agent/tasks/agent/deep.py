"""Tasks that must work something out between the calls: what comes out is what the next call asks for."""

from __future__ import annotations

from dami_agent.tasks.agent.scene import Scene, Template, Templates
from dami_agent.tasks.agent.work import portions, totals
from dami_agent.tasks.task import AgentTask, Operation
from dami_agent.tasks.words import DISHES, an, plural

_FEW = (1, 2, 5, 5, 5)
_FEWER = (0, 1, 3, 3, 5)
"""How many things happen where others happen in another step of the same task, or work is done anyway."""


def _packs(scene: Scene) -> AgentTask | None:
    """Return what is left of a stock, converted: easy work, then a copy."""
    rng = scene.rng
    item, unit = rng.choice(scene.names.items), "dozens"
    stock = int(scene.look("get_stock", item=item))
    sold, more = rng.randint(8, stock - 2), rng.randint(2, 15)
    work = (Operation(stock, "-", sold), Operation(stock - sold, "+", more))
    pieces = scene.look("convert_units", work, amount=work[-1].result, unit=unit)
    prompt = (
        f"The stock of {plural(item)} is counted in {unit}. {sold} are sold, then {more} come in. "
        f"Convert what is left from {unit}."
    )
    return scene.task("work", "packs", prompt, [pieces])


def _boxes(scene: Scene) -> AgentTask | None:
    """Return a stock in dozens less what is sold, converted, then what happens to the pieces."""
    rng = scene.rng
    item = rng.choice(scene.names.items)
    stock = int(scene.look("get_stock", item=item))
    left = Operation(stock, "-", rng.randint(max(2, stock - 80), stock - 2))
    pieces = int(scene.look("convert_units", (left,), amount=left.result, unit="dozens"))
    work, text = scene.changes(pieces, "stock")
    things = plural(item)
    prompt = (
        f"The stock of {things} is counted in dozens. {left.right} dozens are sold. Convert the rest to pieces.{text} "
        f"How many {things} are left?"
    )
    return scene.task("work", "boxes", prompt, (), work)


def _parcel(scene: Scene) -> AgentTask | None:
    """Return what a parcel of several portions and more costs to send, perhaps many times or out of the budget."""
    rng = scene.rng
    dishes = rng.sample(DISHES, rng.choice((1, 1, 2)))
    counts = [rng.randint(2, 5) for _ in dishes]
    work = totals(scene.each("portion_weight", "dish", dishes), counts)
    packing, text = scene.changes(work[-1].result, "weight", _FEWER if len(dishes) == 1 else (0, 0, 1))
    work = [*work, *packing]
    postage = int(scene.look("postage", tuple(work), weight=work[-1].result))
    packed = f"We pack {portions(counts, dishes)}.{text}"
    form = rng.randrange(3)
    if form == 0:
        return scene.task("work", "parcel", f"{packed} What is the postage for all that weight?", [str(postage)])
    if form == 1:
        total = Operation(postage, "*", rng.randint(2, 9))
        more, text = scene.changes(total.result, "bill", _FEWER)
        prompt = f"{packed} Find the postage for it and send {total.right} of them.{text} How much do we pay?"
        return scene.task("work", "parcel", prompt, (), [total, *more])
    budget = int(scene.look("get_budget"))
    left = Operation(budget, "-", postage)
    more, text = scene.changes(left.result, "money", _FEWER)
    prompt = f"{packed} First find the postage for it, then our budget, and pay the postage.{text} How much is left?"
    return scene.task("work", "parcel", prompt, (), [left, *more])


def _later(scene: Scene) -> AgentTask | None:
    """Trains whose numbers are worked out from the next one's; their seats are looked up together."""
    rng = scene.rng
    town, two = rng.choice(scene.names.towns), rng.random() < 0.3
    train = int(scene.look("next_train", town=town))
    if not two:
        number, text = scene.changes(train, "number")
        seats = int(scene.look("free_seats", tuple(number), train=number[-1].result))
        work, then = scene.changes(seats, "seats", _FEW)
        prompt = (
            f"Take the number of the next train to {town}.{text} That is our train: find its free seats.{then} "
            "How many seats are free?"
        )
        return scene.task("work", "later", prompt, (), work)
    gaps = sorted(rng.sample(range(2, 60), 2))
    steps = tuple(Operation(train, "+", gap) for gap in gaps)
    found = scene.each("free_seats", "train", [step.result for step in steps], work=steps)
    both = Operation(int(found[0]), "+", int(found[1]))
    more, text = scene.changes(both.result, "seats")
    prompt = (
        f"Two trains have the number of the next train to {town} plus {gaps[0]} and plus {gaps[1]}. "
        f"Count their free seats together.{text} How many seats are free?"
    )
    return scene.task("work", "later", prompt, (), [both, *more])


def _door(scene: Scene) -> AgentTask | None:
    """Return a guest's extension is worked out from somebody's: then room, perhaps worked out, and seats."""
    rng = scene.rng
    person = rng.choice(scene.names.people)
    phone, text = scene.changes(int(scene.look("find_extension", person=person)), "number")
    room = int(scene.look("room_of", tuple(phone), extension=phone[-1].result))
    asked = f"Take the extension of {person}.{text} That is the extension of the guest."
    form = rng.randrange(3)
    if form == 0:
        return scene.task("work", "door", f"{asked} In which room is the guest?", [str(room)])
    if form == 1:
        seats = int(scene.look("seats_in", room=room))
        work, then = scene.changes(seats, "seats", _FEW)
        prompt = f"{asked} Count the seats in the room of the guest.{then} How many seats are free?"
        return scene.task("work", "door", prompt, (), work)
    next_room = Operation(room, "+", rng.randint(1, 9))
    seats = int(scene.look("seats_in", (next_room,), room=next_room.result))
    work, then = scene.changes(seats, "seats", _FEW)
    prompt = (
        f"{asked} The party is in the room whose number is {next_room.right} more than the room of the guest. "
        f"Count the seats there.{then} How many seats are free?"
    )
    return scene.task("work", "door", prompt, (), work)


def _visit(scene: Scene) -> AgentTask | None:
    """Draw the fare to where somebody, or a boss of a boss, lives, for some people, and what else changes it."""
    rng, bosses = scene.rng, scene.length((0, 2, 2, 3), 1)
    person = rng.choice(scene.names.people)
    value, said = person, person
    for _ in range(bosses):
        value, said = scene.look("boss_of", person=value), f"the boss of {said}"
    fare = int(scene.look("ticket_fare", town=scene.look("town_of", person=value)))
    total = Operation(fare, "*", rng.randint(2, 9))
    more, text = scene.changes(total.result, "bill", (0, 2, 3, 5, 5, 5))
    prompt = f"{total.right} of us take the train to the town of {said}.{text} How much do we pay?"
    return scene.task("work", "visit", prompt, (), [total, *more])


def _saving(scene: Scene) -> AgentTask | None:
    """Price, then stock, perhaps then budget, in the order the prompt asks for them."""
    rng = scene.rng
    item = rng.choice(scene.names.items)
    price = int(scene.look("get_price", item=item))
    stock = int(scene.look("get_stock", item=item))
    first, kept = f"First find the price of {an(item)}, then the stock of {plural(item)}", rng.randint(2, 9)
    if rng.random() < 0.5:
        sold = Operation(stock, "-", stock - kept)
        worth = Operation(sold.result, "*", price) if price <= kept else Operation(price, "*", sold.result)
        more, text = scene.changes(worth.result, "money", _FEW)
        prompt = f"{first}. {sold.right} are sold, and we get the money for the others.{text} How much do we have?"
        return scene.task("work", "saving", prompt, (), [sold, worth, *more])
    budget = int(scene.look("get_budget"))
    spent = Operation(price, "*", min(kept, (budget - 1) // price))
    left = Operation(budget, "-", spent.result)
    more, text = scene.changes(left.result, "money", _FEWER)
    prompt = f"{first}, then our budget. We buy {spent.right} of them.{text} How much of the budget is left?"
    return scene.task("work", "saving", prompt, (), [spent, left, *more])


BETWEEN: Templates = {
    "packs": Template(_packs, 0.4),
    "boxes": Template(_boxes, 1.0),
    "parcel": Template(_parcel, 1.4),
    "later": Template(_later, 1.2),
    "door": Template(_door, 1.8),
    "visit": Template(_visit, 2.0),
    "saving": Template(_saving),
}
