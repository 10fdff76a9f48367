"""Each template of an agent task, solved from its prompt and its tools alone by a reader of its own."""

import re
from collections import Counter
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from dami_agent.tasks import words
from dami_agent.tasks.agent import LARGEST
from dami_agent.tasks.agent.changes import EASY_MOST, STUFF, changes, said
from tests.tasks.test_agent import CORRECTION, named

SINGULAR = {words.plural(item): item for item in words.ITEMS}


def ask(task, tool, **arguments):
    """Call a tool as a reader of its answers would: what an error says to ask for is asked for."""
    result = task.tool(tool).call(arguments)
    if not result.startswith("Error"):
        return result
    key, old = next(iter(arguments.items()))
    better = CORRECTION.search(result)[1]
    return task.tool(tool).call({**arguments, key: int(better) if isinstance(old, int) else better})


GROWS = re.compile(
    r"come in|more are made|are brought back|buy|earn|brings|find|costs|Add|add|gives .* back|come free|adds|go .* more"
    r"|is added|goes in|Put in"
)
SHRINKS = re.compile(
    r"are sold|are broken|are given away|lose|spend|give .* to a friend|repair|Take|friend pays|off|books|are taken"
    r"|are closed|saves|Somebody else|is eaten|comes out|Subtract"
)


def happened(value, text):
    """What a number is after the sentences of `text`, each with one number and a word that says which way it goes."""
    for sentence in re.findall(r"[^.]+", text):
        numbers = re.findall(r"\d+", sentence)
        if not numbers:
            assert not sentence.strip()
            continue
        (number,) = map(int, numbers)
        if " times" in sentence or "ultiply" in sentence:
            value *= number
            continue
        grows, shrinks = GROWS.search(sentence) is not None, SHRINKS.search(sentence) is not None
        assert grows != shrinks, sentence
        value += number if grows else -number
    return value


def between(task, after, before):
    """The prompt from the end of `after` to the start of `before`."""
    return re.search(rf"{after}(.*?){before}", task.prompt)[1]


def test_a_reader_of_baskets_finds_the_answer():
    for task in named("basket"):
        head, *text = task.prompt.split(".", 1) if ". " in task.prompt else [task.prompt]
        bought = re.findall(r"(\d+) ([a-z]+)", head)
        total = sum(int(n) * int(ask(task, "get_price", item=SINGULAR[things])) for n, things in bought)
        text = re.sub(r" (How much [^?]*|One after the other, please.)", "", (text or [""])[0]).replace("?", "")
        assert task.answers == (str(happened(total, text)),)


def test_a_reader_of_trips_finds_the_answer():
    for task in named("trip"):
        towns = re.search(r"from (.+?)\.", task.prompt)[1].split(", then to ")
        ways = [int(ask(task, "get_distance", start=a, end=b)) for a, b in pairwise(towns)]
        assert task.answers == (str(happened(sum(ways), between(task, r"drive [^.]*\.", "How many"))),)


def test_a_reader_of_sales_finds_the_answer():
    for task in named("sale"):
        things = re.search(r"stock of ([a-z]+)", task.prompt)[1]
        stock = int(ask(task, "get_stock", item=SINGULAR[things]))
        assert task.answers == (str(happened(stock, between(task, r"stock of [a-z]+\.", "How many"))),)


def test_a_reader_of_purses_finds_the_answer():
    for task in named("purse"):
        count, things, town = re.search(r"pay (\d+) ([a-z]+) and the train fare to (\w+)\.", task.prompt).groups()
        paid = int(count) * int(ask(task, "get_price", item=SINGULAR[things])) + int(
            ask(task, "ticket_fare", town=town)
        )
        left = int(ask(task, "get_budget")) - paid
        assert task.answers == (str(happened(left, between(task, rf"fare to {town}\.", "How much"))),)


def test_a_reader_of_groups_finds_the_answer():
    for task in named("group"):
        trains = re.findall(r"\d+", task.prompt.split(" together.")[0])
        seats = sum(int(ask(task, "free_seats", train=int(train))) for train in trains)
        assert task.answers == (str(happened(seats, between(task, r"together\.", "How many"))),)


def test_a_reader_of_visits_finds_the_answer():
    for task in named("visit"):
        count = int(task.prompt.split()[0])
        person = re.search(r"of ([A-Z][a-z]+)\.", task.prompt)[1]
        for _ in range(task.prompt.count("the boss of")):
            person = ask(task, "boss_of", person=person)
        fare = int(ask(task, "ticket_fare", town=ask(task, "town_of", person=person)))
        text = between(task, r"of [A-Z][a-z]+\.", "How much")
        assert task.answers == (str(happened(fare * count, text)),)


def test_a_reader_of_doors_finds_the_answer():
    for task in named("door"):
        person = re.search(r"extension of (\w+)", task.prompt)[1]
        extension = int(ask(task, "find_extension", person=person))
        extension = happened(extension, between(task, rf"of {person}\.", "That is"))
        room = int(ask(task, "room_of", extension=extension))
        if further := re.search(r"number is (\d+) more", task.prompt):
            room += int(further[1])
        if "seats" in task.prompt:
            room = happened(
                int(ask(task, "seats_in", room=room)), between(task, r"Count the seats [^.]*\.", "How many")
            )
        assert task.answers == (str(room),)


def test_a_reader_of_single_later_trains_finds_the_answer():
    for task in [task for task in named("later", count=60) if task.prompt.startswith("Take")]:
        town = re.search(r"train to (\w+)\.", task.prompt)[1]
        train = happened(int(ask(task, "next_train", town=town)), between(task, rf"to {town}\.", "That is"))
        seats = int(ask(task, "free_seats", train=train))
        assert task.answers == (str(happened(seats, between(task, r"free seats\.", "How many"))),)


def test_a_reader_of_boxes_finds_the_answer():
    for task in named("boxes"):
        things, sold = re.search(r"stock of (\w+) is counted in dozens\. (\d+) dozens", task.prompt).groups()
        dozens = int(ask(task, "get_stock", item=SINGULAR[things])) - int(sold)
        pieces = int(ask(task, "convert_units", amount=dozens, unit="dozens"))
        assert pieces == 12 * dozens
        assert task.answers == (str(happened(pieces, between(task, r"to pieces\.", "How many"))),)


def weighed(task, text):
    portions = re.findall(r"(\d+) portions of (\w+)", text)
    assert portions
    return sum(int(count) * int(ask(task, "portion_weight", dish=dish)) for count, dish in portions)


def test_a_reader_of_loads_and_kitchens_finds_the_answer():
    for task in named("load", count=60) + named("kitchen"):
        value = weighed(task, task.prompt)
        if text := re.match(r"[^.?]*\.(.*\.) ", task.prompt):
            value = happened(value, text[1])
        assert task.answers == (str(value),)


def test_a_reader_of_outings_finds_the_answer():
    for task in named("outing"):
        tickets = re.findall(r"(\d+) tickets to (\w+)", task.prompt)
        paid = [int(count) * int(ask(task, "ticket_fare", town=town)) for count, town in tickets]
        assert len(paid) in (2, 4)
        assert task.answers == (str(sum(paid)),)


def test_a_reader_of_the_meetings_of_bosses_finds_the_answers():
    seen = 0
    for task in named("staff", kind="route"):
        if day := next((day for day in words.DAYS if day in task.prompt), None):
            people = [word for word in re.findall(r"\w+", task.prompt) if word in words.PEOPLE]
            bosses = [ask(task, "boss_of", person=person) for person in people]
            assert task.answers == tuple(ask(task, "count_meetings", person=boss, day=day) for boss in bosses)
            seen += 1
    assert seen


def test_a_reader_of_tickets_finds_the_answer():
    for task in named("tickets", count=80):
        count, town = re.search(r"(\d+) (?:train )?tickets to (\w+)", task.prompt).groups()
        value = int(count) * int(ask(task, "ticket_fare", town=town))
        if text := re.match(r"We need [^.]*\.(.*) How|I want to buy [^.]*\.(.*) How", task.prompt):
            value = happened(value, text[1] or text[2] or "")
        assert task.answers == (str(value),)


def test_a_reader_of_stores_finds_the_answer():
    for task in named("stores", count=80):
        told, text = re.match(r"([^.]*)\.(.*?)(?:How many.*)?$", task.prompt).groups()
        found = [
            int(ask(task, "get_stock", item=item))
            for things, item in SINGULAR.items()
            if re.search(rf"\b{things}\b", told)
        ]
        found += [int(ask(task, "seats_in", room=int(room))) for room in re.findall(r"\d+", told)]
        assert len(found) in (2, 3)
        assert task.answers == (str(happened(sum(found), text)),)


def test_a_reader_of_tasks_with_two_rounds_for_all_finds_the_answers():
    seen = Counter()
    for name in ("fleet", "neighbours", "halls", "desks", "chiefs", "staff"):
        for task in named(name, kind="route"):
            if name == "staff" and "meetings" in task.prompt:
                continue
            known = {*words.TOWNS, *words.PEOPLE}
            values = [word for word in re.findall(r"\w+", task.prompt) if word in known or word.isdigit()]
            steps = sorted(
                set(re.findall("free seat|next train|seats in|room|extension|boss|town|fare|temp", task.prompt))
            )
            if name == "fleet":
                order = ("next_train", "town"), ("free_seats", "train")
            elif name == "neighbours":
                last = {"fare": "ticket_fare", "temp": "read_temperature", "next train": "next_train"}
                (found,) = (tool for word, tool in last.items() if word in steps)
                order = ("town_of", "person"), (found, "town")
            elif name == "halls":
                order = ("room_of", "extension"), ("seats_in", "room")
            elif name == "desks":
                order = ("find_extension", "person"), ("room_of", "extension")
            elif name == "staff":
                order = ("boss_of", "person"), ("boss_of", "person")
            else:
                order = ("boss_of", "person"), ("town_of" if "town" in steps else "find_extension", "person")
            for tool, key in order:
                values = [ask(task, tool, **{key: int(each) if each.isdigit() else each}) for each in values]
            assert task.answers == tuple(values)
            seen[name, len(values)] += 1
    assert len(seen) == 12  # two and three of each


def test_a_reader_of_parcels_finds_the_answer():
    for task in named("parcel", count=60):
        first, packing, rest = re.search(
            r"(We pack [^.]*\.)(.*?)((?:What is|Find|First find) the postage.*)", task.prompt
        ).groups()
        weight = happened(weighed(task, first), packing)
        value = int(ask(task, "postage", weight=weight))
        if rest.startswith("First"):
            value = int(ask(task, "get_budget")) - value
        elif times := re.search(r"send (\d+) of them", rest):
            value *= int(times[1])
        text = "" if rest.startswith("What") else re.search(r"\.(.*?)How much", rest)[1]
        assert task.answers == (str(happened(value, text)),)


STEPS = {
    "boss": ("boss_of", "person"),
    "town": ("town_of", "person"),
    "extension": ("find_extension", "person"),
    "room": ("room_of", "extension"),
    "seats in": ("seats_in", "room"),
    "free seats": ("free_seats", "train"),
    "next train": ("next_train", "town"),
    "fare": ("ticket_fare", "town"),
    "temperature": ("read_temperature", "town"),
}


def test_a_reader_of_paths_finds_the_answer():
    for task in named("path", kind="route", count=120):
        words_of = re.findall("|".join(STEPS), task.prompt)
        if task.prompt.startswith("Start with"):
            value = task.prompt.split()[2].rstrip(".")
        else:
            words_of.reverse()
            value = re.findall(r"[A-Z][a-z]+", task.prompt)[-1]
        for word in words_of:
            tool, key = STEPS[word]
            value = ask(task, tool, **{key: int(value) if value.isdigit() else value})
        assert task.answers == (value,)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, LARGEST), st.integers(0, 12))
def test_changes_chain_stay_in_range_and_are_said(seed, start, count):
    work = changes(Random(seed), start, count, LARGEST)
    assert [step.left for step in work] == [start, *(step.result for step in work)][:count]
    assert all(1 <= step.result <= LARGEST and step.right >= 2 for step in work)
    if count <= EASY_MOST:
        assert all(step.right <= 20 for step in work)
    for what in STUFF:
        assert happened(start, said(Random(seed), what, work)) == (work[-1].result if work else start)
