"""Tasks that must work something out between the calls: what comes out is what the next call asks for."""

from __future__ import annotations

from dami_agent.tasks.agent.scene import Scene, Template, Templates
from dami_agent.tasks.model import AgentTask, Operation
from dami_agent.tasks.words import DISHES, an, plural


def _packs(scene: Scene) -> AgentTask | None:
    """What is left of a stock, converted."""
    rng = scene.rng
    item, unit = rng.choice(scene.names.items), "dozens"
    stock = int(scene.look("get_stock", item=item))
    sold, more = rng.randint(5, 30), rng.randint(2, 15)
    work = (Operation(stock, "-", sold), Operation(stock - sold, "+", more))
    pieces = scene.look("convert_units", work, amount=work[-1].result, unit=unit)
    prompt = (
        f"The stock of {plural(item)} is counted in {unit}. {sold} are sold, then {more} come in. "
        f"Convert what is left from {unit}."
    )
    return scene.task("work", "packs", prompt, [pieces])


def _boxes(scene: Scene) -> AgentTask | None:
    """A stock in dozens less what is sold, converted, less some pieces more."""
    rng = scene.rng
    item = rng.choice(scene.names.items)
    stock, sold = int(scene.look("get_stock", item=item)), rng.randint(5, 30)
    left = Operation(stock, "-", sold)
    pieces = int(scene.look("convert_units", (left,), amount=left.result, unit="dozens"))
    broken = rng.randint(2, 60)
    things = plural(item)
    prompt = (
        f"The stock of {things} is counted in dozens. {sold} dozens are sold. Convert the rest; {broken} of those "
        f"pieces are broken. How many {things} are whole?"
    )
    return scene.task("work", "boxes", prompt, (), [Operation(pieces, "-", broken)])


def _parcel(scene: Scene) -> AgentTask | None:
    """What a parcel of several portions costs to send, perhaps with the thing itself or out of the budget."""
    rng = scene.rng
    dish, count = rng.choice(DISHES), rng.randint(2, 5)
    weight = int(scene.look("portion_weight", dish=dish))
    work = [Operation(weight, "*", count)]
    box, extra = rng.randint(2, 20), rng.random() < 0.5
    if extra:
        work.append(Operation(work[0].result, "+", box))
    postage = int(scene.look("postage", tuple(work), weight=work[-1].result))
    packed = f"{count} portions of {dish}" + (f" in a box that weighs {box}" if extra else "")
    form = rng.randrange(3)
    if form == 0:
        return scene.task("work", "parcel", f"What is the postage for {packed}?", [str(postage)])
    if form == 1:
        times = rng.randint(2, 6)
        prompt = f"We send {packed} to {times} people. How much is the postage for all?"
        return scene.task("work", "parcel", prompt, (), [Operation(postage, "*", times)])
    budget = int(scene.look("get_budget"))
    prompt = f"First find the postage for {packed}, then our budget. How much of the budget is left?"
    return scene.task("work", "parcel", prompt, (), [Operation(budget, "-", postage)])


def _later(scene: Scene) -> AgentTask | None:
    """The trains after the next one: their numbers are worked out, their seats looked up together."""
    rng = scene.rng
    town, gaps = rng.choice(scene.names.towns), sorted(rng.sample(range(2, 20), rng.choice((1, 1, 2))))
    train = int(scene.look("next_train", town=town))
    if len(gaps) == 1:
        step = Operation(train, "+", gaps[0])
        seats, group = int(scene.look("free_seats", (step,), train=step.result)), rng.randint(2, 30)
        prompt = (
            f"The number of the next train to {town} plus {gaps[0]} is our train. "
            f"How many free seats has it after a group of {group} books?"
        )
        return scene.task("work", "later", prompt, (), [Operation(seats, "-", group)])
    steps = tuple(Operation(train, "+", gap) for gap in gaps)
    seats_of = scene.each("free_seats", "train", [step.result for step in steps], work=steps)
    prompt = (
        f"Two trains have the number of the next train to {town} plus {gaps[0]} and plus {gaps[1]}. "
        "How many free seats have they together?"
    )
    return scene.task("work", "later", prompt, (), [Operation(int(seats_of[0]), "+", int(seats_of[1]))])


def _door(scene: Scene) -> AgentTask | None:
    """A desk beside somebody's: extension, worked out, room, perhaps worked out, seats."""
    rng = scene.rng
    person, more = rng.choice(scene.names.people), rng.randint(2, 40)
    phone = Operation(int(scene.look("find_extension", person=person)), "+", more)
    room = int(scene.look("room_of", (phone,), extension=phone.result))
    asked = f"The extension of the guest is {more} more than that of {person}."
    form = rng.randrange(3)
    if form == 0:
        return scene.task("work", "door", f"{asked} In which room is the guest?", [str(room)])
    guests = rng.randint(2, 30)
    if form == 1:
        seats = int(scene.look("seats_in", room=room))
        prompt = f"{asked} How many seats are free in the room of the guest when {guests} are taken?"
        return scene.task("work", "door", prompt, (), [Operation(seats, "-", guests)])
    doors = rng.randint(1, 9)
    next_room = Operation(room, "+", doors)
    seats = int(scene.look("seats_in", (next_room,), room=next_room.result))
    prompt = (
        f"{asked} The party is in the room whose number is {doors} more than the room of the guest. "
        f"How many seats are free there when {guests} are taken?"
    )
    return scene.task("work", "door", prompt, (), [Operation(seats, "-", guests)])


def _visit(scene: Scene) -> AgentTask | None:
    """The fare to where somebody, or a boss of a boss, lives, for a number of people with a coupon."""
    rng, bosses = scene.rng, scene.length((0, 2, 2, 3), 1)
    person = rng.choice(scene.names.people)
    value, said = person, person
    for _ in range(bosses):
        value, said = scene.look("boss_of", person=value), f"the boss of {said}"
    fare = int(scene.look("ticket_fare", town=scene.look("town_of", person=value)))
    count, coupon = rng.randint(2, 9), rng.randint(2, 30)
    work = [Operation(fare, "*", count)]
    prompt = f"{count} of us take the train to the town of {said}. What do the tickets cost together?"
    if rng.random() < 0.5:
        work.append(Operation(work[0].result, "-", coupon))
        prompt = (
            f"{count} of us take the train to the town of {said} and have a coupon of {coupon}. How much do we pay?"
        )
    return scene.task("work", "visit", prompt, (), work)


def _saving(scene: Scene) -> AgentTask | None:
    """Price, then stock, then budget, in the order the prompt asks for them, or a part of that."""
    rng = scene.rng
    item, count = rng.choice(scene.names.items), rng.randint(2, 9)
    price = int(scene.look("get_price", item=item))
    stock = int(scene.look("get_stock", item=item))
    first = f"First find the price of {an(item)}, then the stock of {plural(item)}"
    if rng.random() < 0.5:
        sold = Operation(stock, "-", count)
        work = [sold, Operation(sold.result, "*", price)]
        return scene.task("work", "saving", f"{first}. {count} are sold. What are the others worth?", (), work)
    budget = int(scene.look("get_budget"))
    spent = Operation(price, "*", count)
    prompt = f"{first}, then our budget. We buy {count} of them. How much of the budget is left?"
    return scene.task("work", "saving", prompt, (), [spent, Operation(budget, "-", spent.result)])


BETWEEN: Templates = {
    "packs": Template(_packs, 0.8),
    "boxes": Template(_boxes, 0.8),
    "parcel": Template(_parcel, 1.4),
    "later": Template(_later, 1.2),
    "door": Template(_door, 1.8),
    "visit": Template(_visit, 2.0),
    "saving": Template(_saving),
}
