"""Hard agent tasks: solved from prompt and tools alone by readers of their own, and as deep as they say."""

import re
from collections import Counter
from itertools import pairwise

import pytest

from dami_agent.tasks import UNSEEN, agent_tasks, words
from dami_agent.tasks.agent.hard import HARD
from dami_agent.tasks.agent.scene import LARGEST_HARD, MOST_HARD_TOOLS
from dami_agent.tasks.records import HELD_LENGTH, HELD_ROWS
from dami_agent.tasks.task import Note, Operation, depth_of
from tests.tasks.test_agent import named
from tests.tasks.test_agent_readers import ask, happened

SINGULAR = {words.plural(item): item for item in words.ITEMS}


def hard(name, count=40):
    return named(name, kind="hard", count=count)


def person_of(task, said):
    """The person that `the boss of the boss of Ana` is."""
    if said.startswith("the boss of "):
        return ask(task, "boss_of", person=person_of(task, said.removeprefix("the boss of ")))
    return said


def town_of(task, said):
    if said.startswith("the town of "):
        return ask(task, "town_of", person=person_of(task, said.removeprefix("the town of ")))
    return said


def item_of(task, said):
    if found := re.fullmatch(r"the item that (.+) sells", said):
        return ask(task, "ware_of", person=person_of(task, found[1]))
    return said.removeprefix("the ")


def of_list(prompt, numbers):
    if "add up" in prompt or "sum" in prompt:
        return sum(numbers)
    if found := re.search(r"above (\d+)", prompt):
        return sum(number > int(found[1]) for number in numbers)
    if "how far" in prompt.lower() or "minus" in prompt:
        return max(numbers) - min(numbers)
    return max(numbers) if "largest" in prompt else min(numbers)


def then(task, person):
    """What the prompt wants of a person who was found."""
    found = re.search(r"I need the (\w+) of", task.prompt)
    if found is None:
        return person
    tool = {"town": "town_of", "extension": "find_extension", "boss": "boss_of", "item": "ware_of"}[found[1]]
    return ask(task, tool, person=person)


def test_a_reader_of_lists_finds_the_answer():
    for task in hard("list", 80):
        said = re.match(r"\w+(?: up)? the (?:sales|visitors) of (.+?)\. ", task.prompt)[1]
        if "sales of" in task.prompt:
            told = ask(task, "list_sales", item=item_of(task, said))
        else:
            told = ask(task, "list_visitors", town=town_of(task, said))
        asked = task.prompt.split(". ", 1)[1]
        assert task.answers == (str(of_list(asked, [int(each) for each in told.split(", ")])),)


def test_a_reader_of_bills_finds_the_answer():
    for task in hard("bill"):
        said = re.search(r"price list of (.+?)\. We|We buy .*? in (.+?)\. ", task.prompt)
        told = ask(task, "price_list", town=town_of(task, said[1] or said[2]))
        costs = {item: int(cost) for item, cost in re.findall(r"([\w ]+?) (\d+) euros", told.replace("Prices: ", ""))}
        costs = {item.strip(): cost for item, cost in costs.items()}
        bought, rest = re.search(r"We buy (.+?) (?:there|in [^.]+)\.(.*)", task.prompt).groups()
        total = sum(int(many) * costs[SINGULAR[things]] for many, things in re.findall(r"(\d+) ([a-z]+)", bought))
        rest = re.sub(r"( How much| Find the price).*", "", rest)
        assert task.answers == (str(happened(total, rest)),)


def test_a_reader_of_tables_finds_the_answer():
    for task in hard("table"):
        town = town_of(task, re.search(r"desks in (.+?)\. ", task.prompt)[1])
        told = ask(task, "show_desks", town=town)
        room = re.search(r"in room (\d+)", task.prompt)[1]
        person = re.search(rf"(\w+): room {room},", told)[1]
        assert task.answers == (then(task, person),)


def test_a_reader_of_logs_finds_the_answer():
    for task in hard("log"):
        said, first, hops = re.search(
            r"who passes (.+?) to whom\. (\w+) has it first\. .*after (\d+) pass", task.prompt
        ).groups()
        told = ask(task, "pass_log", item=item_of(task, said))
        after = dict(re.findall(r"(\w+) to (\w+)", told.split(" goes ")[1]))
        for _ in range(int(hops)):
            first = after[first]
        assert task.answers == (then(task, first),)


def test_a_reader_of_lines_finds_the_answer():
    for task in hard("line"):
        said = re.search(r"(?:whom in|team of) (.+?)\. ", task.prompt)[1]
        told = ask(task, "line_up", town=town_of(task, said))
        pairs = re.findall(r"(\w+) is shorter than (\w+)", told)
        (tallest,) = {other for _, other in pairs} - {one for one, _ in pairs}
        assert task.answers == (then(task, tallest),)


def test_a_reader_of_comparisons_finds_the_answer():
    for task in hard("compare"):
        people = re.findall(r"\w+", re.search(r"towns of (.+?), then", task.prompt)[1].replace(" and ", " "))
        tool = next(call.name for call in task.plan if call.name != "town_of")
        numbers = [int(ask(task, tool, town=ask(task, "town_of", person=each))) for each in people]
        assert task.answers == (str(of_list(task.prompt.split(". ", 1)[1], numbers)),)


def test_a_reader_of_orders_finds_the_answer():
    for task in hard("order"):
        found = re.match(r"We order (\d+) pieces of (.+?)\.(.*) Find the price|.", task.prompt)
        if found[1]:
            many, said, text = found.groups()
        else:
            said, many, text = re.match(
                r"Find the price of (.+?)\. We buy (\d+) of them\.(.*) How much", task.prompt
            ).groups()
        price = int(ask(task, "get_price", item=item_of(task, said)))
        assert task.answers == (str(happened(price * int(many), text)),)


def test_a_reader_of_seats_finds_the_answer():
    for task in hard("seats"):
        said, text = re.match(
            r"Count the seats in the room of the extension of (.+?)\.(.*) How many", task.prompt
        ).groups()
        room = ask(task, "room_of", extension=int(ask(task, "find_extension", person=person_of(task, said))))
        assert task.answers == (str(happened(int(ask(task, "seats_in", room=int(room))), text)),)


@pytest.mark.parametrize("unseen", [None, *UNSEEN])
def test_the_plan_solves_the_task_with_the_bound_tools(unseen):
    for task in agent_tasks("test", 150, seed=2, kinds=("hard",), unseen=unseen):
        assert 1 <= len({tool.spec.name for tool in task.tools}) == len(task.tools) <= MOST_HARD_TOOLS
        assert 2 <= task.steps <= 6
        assert all(task.tool(call.name).call(call.arguments) == call.result for call in task.plan)
        numbers = [step for call in task.plan for step in call.work] + list(task.work)
        assert all(0 <= step.result <= LARGEST_HARD for step in numbers if isinstance(step, Operation))
        assert task.grade(task.reply)
        assert task.unseen == ((unseen,) if unseen else ())


def test_unseen_lengths_are_in_no_other_task():
    held, seen = Counter(), Counter()
    for counts, unseen in ((held, "length"), (seen, None)):
        for task in agent_tasks("train", 400, kinds=("hard",), unseen=unseen):
            for call in task.plan:
                if call.name in ("list_sales", "list_visitors") and not call.result.startswith("Error"):
                    counts["list", len(call.result.split(", "))] += 1
                if call.name == "show_desks" and not call.result.startswith("Error"):
                    counts["desks", call.result.count("room")] += 1
    assert {length for what, length in held if what == "list"} == {HELD_LENGTH}
    assert {rows for what, rows in held if what == "desks"} == {HELD_ROWS}
    assert not held.keys() & seen.keys()


def test_templates_held_out_are_in_no_other_task():
    names = {task.name for task in agent_tasks("train", 400, kinds=("hard",))}
    assert names == {name for name, template in HARD.items() if not template.held}
    held = {task.name for task in agent_tasks("test", 60, kinds=("hard",), unseen="template")}
    assert held == {name for name, template in HARD.items() if template.held}


def test_most_steps_route_and_the_others_are_deep():
    shares = Counter(depth for task in agent_tasks("test", 400, kinds=("hard",)) for depth in task.depths)
    total = shares.total()
    assert 0.6 <= shares[0] / total <= 0.75
    assert (shares[1] + shares[2]) / total <= 0.03
    assert all(shares[depth] / total >= 0.03 for depth in (3, 4, 5))


def test_depth_counts_operations_and_long_products():
    add, times, long = Operation(3, "+", 4), Operation(30, "*", 4), Operation(30, "*", 14)
    assert [depth_of([add] * count) for count in (0, 1, 2, 3, 4, 5, 7, 8, 20)] == [0, 1, 2, 3, 3, 4, 4, 5, 5]
    assert [depth_of(work) for work in ([times], [long], [long, add], [long, long])] == [1, 3, 4, 5]
    assert depth_of([Note("Ana", "2 left, Leo to Ana")] * 3) == 3


def test_a_record_says_the_same_twice_and_by_any_case():
    for task in hard("table", 10):
        call = next(call for call in task.plan if call.name == "show_desks")
        town = call.arguments["town"]
        assert task.tool("show_desks").call({"town": town}) == call.result
        lower = task.tool("show_desks").call({"town": town.lower()})
        assert lower == call.result or "Error" in lower + call.result


def test_passes_lead_on_from_the_first_holder():
    for task in hard("log", 10):
        steps = [note.line for call in task.plan for note in call.work] or [note.line for note in task.work]
        moves = [re.search(r"(\w+) to (\w+)", line).groups() for line in steps]
        assert all(taker == giver for (_, taker), (giver, _) in pairwise(moves))
