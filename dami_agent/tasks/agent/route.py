"""Tasks that only route: call, copy, call again with what came back."""

from __future__ import annotations

from collections.abc import Sequence

from dami_agent.tasks.agent.scene import IN_TURN, Scene, Template, Templates, lookup
from dami_agent.tasks.catalogue import CATALOGUE
from dami_agent.tasks.task import AgentTask
from dami_agent.tasks.words import DAYS, an, joined, plural


def _single(scene: Scene) -> AgentTask | None:
    rng = scene.rng
    wanted = rng.choice(tuple(CATALOGUE.values())).ask(rng, scene.names)
    forms = ("What is {0}?", "Tell me {0}.", "Find {0}.", "I need {0}.", "Please look up {0}.", "Can you find {0}?")
    return scene.task("route", "single", rng.choice(forms).format(wanted.phrase), scene.together([wanted]))


def _several(scene: Scene) -> AgentTask | None:
    """Two lookups of different kinds, or two or three of one kind."""
    rng, kinds = scene.rng, [kind for kind in CATALOGUE.values() if kind.spec.name != "get_budget"]
    chosen = rng.sample(kinds, 2) if rng.random() < 0.6 else [rng.choice(kinds)] * rng.choice((2, 2, 3))
    wanted = [kind.ask(rng, scene.names) for kind in chosen]
    if len({each.phrase for each in wanted}) < len(wanted):
        return None
    forms = ("What are {0}?", "Tell me {0}.", "Find {0}.", "I need {0}.", "Please look up {0}.")
    prompt = rng.choice(forms).format(joined([each.phrase for each in wanted]))
    in_turn = scene.in_turn()
    if in_turn and len(wanted) == 2 and rng.random() < 0.5:
        prompt = f"First find {wanted[0].phrase}, then {wanted[1].phrase}."
    elif in_turn:
        prompt += IN_TURN
    return scene.task("route", "several", prompt, scene.all_of(wanted, in_turn=in_turn))


def _tour(scene: Scene) -> AgentTask | None:
    """Return the same lookup for three or five towns, things or people."""
    rng, names = scene.rng, scene.names
    count, in_turn = scene.length((3, 5), 4), scene.in_turn(0.4)
    tool, key, word, pool = rng.choice(
        (
            ("read_temperature", "town", "temperatures in", names.towns),
            ("ticket_fare", "town", "fares to", names.towns),
            ("next_train", "town", "next trains to", names.towns),
            ("get_price", "item", "prices of", names.items),
            ("get_stock", "item", "stock of", names.items),
            ("find_extension", "person", "extensions of", names.people),
        )
    )
    values = rng.sample(pool, count)
    said = [plural(each) if tool == "get_stock" else an(each) if tool == "get_price" else each for each in values]
    prompt = f"List the {word} {joined(said)}." + (IN_TURN if in_turn else "")
    return scene.task("route", "tour", prompt, scene.each(tool, key, values, in_turn=in_turn))


def _chained(scene: Scene) -> AgentTask | None:
    """Return the second call takes what the first one said."""
    person = scene.rng.choice(scene.names.people)
    room = scene.look("room_of", extension=int(scene.look("find_extension", person=person)))
    forms = (
        "In which room does {0} sit? Find the extension of {0} first, then its room.",
        "Find the extension of {0}, then tell me the room of that extension.",
    )
    return scene.task("route", "chained", scene.rng.choice(forms).format(person), [room])


_TAILS = (
    ("find_extension", "room_of"),
    ("town_of", "next_train"),
    ("town_of", "ticket_fare"),
    ("town_of", "read_temperature"),
    ("find_extension",),
    ("town_of",),
)
_LONG_TAILS = (("find_extension", "room_of", "seats_in"), ("town_of", "next_train", "free_seats"))
_NEXT = {
    "boss_of": ("person", "the boss", "the boss of {0}"),
    "town_of": ("person", "the town", "the town of {0}"),
    "find_extension": ("person", "the extension", "the extension of {0}"),
    "room_of": ("extension", "the room", "the room of {0}"),
    "seats_in": ("room", "the seats in it", "the seats in {0}"),
    "next_train": ("town", "the next train there", "the next train to {0}"),
    "free_seats": ("train", "its free seats", "the free seats on {0}"),
    "ticket_fare": ("town", "the fare there", "the fare to {0}"),
    "read_temperature": ("town", "the temperature there", "the temperature in {0}"),
}
"""Tool -> its argument, how it goes on in a list, how it is said around what came before."""


def _path(scene: Scene) -> AgentTask | None:
    """Two, four or five calls, each from what the last one said."""
    rng, count = scene.rng, scene.length((2, 2, 4, 4, 5), 3)
    tails = [tail for tail in _TAILS if 0 <= count - len(tail) <= 3]
    tail = rng.choice(_LONG_TAILS if count == 3 and rng.random() < 0.5 else tails)
    tools = ("boss_of",) * (count - len(tail)) + tail
    person = rng.choice(scene.names.people)
    value, nested = person, person
    for tool in tools:
        key, _, around = _NEXT[tool]
        nested = around.format(nested)
        value = scene.each(tool, key, [int(value) if value.isdigit() else value])[0]
    steps = [_NEXT[tool][1] if i == 0 or tool != "boss_of" else "the boss of that one" for i, tool in enumerate(tools)]
    if rng.random() < 0.5:
        prompt = f"Start with {person}. Find {', then '.join(steps)}."
    else:
        prompt = rng.choice(("What is {0}?", "Tell me {0}.", "I need {0}.")).format(nested)
    return scene.task("route", "path", prompt, [value])


def _first(scene: Scene, tool: str, key: str, values: Sequence[object]) -> list[str] | None:
    """Return what a first round of lookups finds for a second one to take; None if two find the same."""
    found = scene.each(tool, key, values)
    return found if len(set(found)) == len(found) else None


def _fleet(scene: Scene) -> AgentTask | None:
    """Two or three towns: the next train to each, together, then the free seats on all, together."""
    rng = scene.rng
    towns = rng.sample(scene.names.towns, rng.choice((2, 2, 3)))
    trains = _first(scene, "next_train", "town", towns)
    if trains is None:
        return None
    seats = scene.each("free_seats", "train", [int(train) for train in trains])
    forms = (
        f"How many free seats are {joined([f'on the next train to {town}' for town in towns])}?",
        f"Find the next trains to {joined(towns)}, then the free seats on {_all(towns)}.",
        f"Tell me the free seats on the next trains to {joined(towns)}.",
    )
    return scene.task("route", "fleet", rng.choice(forms), seats)


def _neighbours(scene: Scene) -> AgentTask | None:
    """Two or three people who live somewhere: what is to be known of the town of each."""
    rng = scene.rng
    people = rng.sample(scene.names.people, rng.choice((2, 2, 3)))
    towns = _first(scene, "town_of", "person", people)
    if towns is None:
        return None
    tool, word = rng.choice(
        (("ticket_fare", "fare to"), ("read_temperature", "temperature in"), ("next_train", "next train to"))
    )
    found = scene.each(tool, "town", towns)
    forms = (
        "Find the towns of {0}, then the {1} {2}.",
        "What is the {1} the towns of {0}?",
        "I need the {1} the towns of {0}.",
    )
    prompt = rng.choice(forms).format(joined(people), word, _all(people))
    return scene.task("route", "neighbours", prompt, found)


def _halls(scene: Scene) -> AgentTask | None:
    """Two or three extensions: their rooms, together, then the seats in all."""
    rng = scene.rng
    extensions = rng.sample(range(100, 400), rng.choice((2, 2, 3)))
    rooms = _first(scene, "room_of", "extension", extensions)
    if rooms is None:
        return None
    seats = scene.each("seats_in", "room", [int(room) for room in rooms])
    forms = (
        "Find the rooms of extensions {0}, then the seats in {1}.",
        "How many seats are in the rooms of {0}?",
        "I need the seats in the rooms of {0}.",
    )
    prompt = rng.choice(forms).format(joined([str(each) for each in extensions]), _all(extensions))
    return scene.task("route", "halls", prompt, seats)


def _staff(scene: Scene) -> AgentTask | None:
    """Two or three people: their bosses, together, then the bosses of these, or their meetings on a day."""
    rng = scene.rng
    people = rng.sample(scene.names.people, rng.choice((2, 2, 3)))
    bosses = _first(scene, "boss_of", "person", people)
    if bosses is None:
        return None
    if rng.random() < 0.5:
        found, word, day = scene.each("boss_of", "person", bosses), "bosses", ""
    else:
        day = rng.choice(DAYS)
        found = scene.together([lookup("count_meetings", person=boss, day=day) for boss in bosses])
        word, day = "meetings", f" on {day}"
    forms = (
        "Find the bosses of {0}, then the {1} of {2}{3}.",
        "I need the {1} of the bosses of {0}{3}.",
        "What are the {1} of the bosses of {0}{3}?",
        "Look up the bosses of {0}. Then find the {1} of {2}{3}.",
    )
    return scene.task("route", "staff", rng.choice(forms).format(joined(people), word, _all(people), day), found)


def _all(values: Sequence[object]) -> str:
    return "both" if len(values) == 2 else "all"


def _desks(scene: Scene) -> AgentTask | None:
    """Two or three people: their extensions, together, then all rooms, together. Never in training."""
    rng = scene.rng
    people = rng.sample(scene.names.people, rng.choice((2, 3, 3)))
    extensions = _first(scene, "find_extension", "person", people)
    if extensions is None:
        return None
    rooms = scene.each("room_of", "extension", [int(each) for each in extensions])
    forms = ("Find the extensions of {0}, then the rooms of {1}.", "I need the rooms of the extensions of {0}.")
    prompt = rng.choice(forms).format(joined(people), _all(people))
    return scene.task("route", "desks", prompt, rooms)


def _chiefs(scene: Scene) -> AgentTask | None:
    """Two or three people: their bosses, together, then the towns or extensions of these. Never in training."""
    rng = scene.rng
    people = rng.sample(scene.names.people, rng.choice((2, 2, 3)))
    bosses = _first(scene, "boss_of", "person", people)
    if bosses is None:
        return None
    tool, word = rng.choice((("town_of", "towns"), ("find_extension", "extensions")))
    found = scene.each(tool, "person", bosses)
    forms = ("Find the bosses of {0}, then the {1} of {2}.", "I need the {1} of the bosses of {0}.")
    return scene.task("route", "chiefs", rng.choice(forms).format(joined(people), word, _all(people)), found)


ROUTE: Templates = {
    "single": Template(_single, 2.5),
    "several": Template(_several, 2.0),
    "tour": Template(_tour, 2.0),
    "chained": Template(_chained, 0.7),
    "path": Template(_path, 3.0),
    "fleet": Template(_fleet, 1.0),
    "neighbours": Template(_neighbours, 1.2),
    "halls": Template(_halls, 0.8),
    "staff": Template(_staff, 1.0),
    "desks": Template(_desks, held=True),
    "chiefs": Template(_chiefs, held=True),
}
