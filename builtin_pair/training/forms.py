"""Documents of forms to be filled from a text, of many tools, and of requests that no tool serves.

A form is what LangChain's ToolStrategy binds (a tool named like a class) or what a response format asks for (a JSON
object): two to four fields whose values stand in the text, in any order, beside others; or one or two, of which one
is to be worked out.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from builtin_pair.training import thoughts
from builtin_pair.training.calling import task_turns
from builtin_pair.training.render import Template, TrainingDialogue, Turn
from dami_agent.tasks import invented, novel, words
from dami_agent.tasks.catalogue import CATALOGUE
from dami_agent.tasks.questions import FAMILIES, practice
from dami_agent.tasks.task import AgentTask, PlannedCall, ToolSpec, Working
from dami_agent.tasks.world import SEEN, World, invented_names

SCHEMA_NOTE = "Answer with JSON that follows this schema:\n"
"""How the chat model asks for a schema."""


def code(rng: Random) -> str:
    """Draw an id of letters and digits: `A17`, `KX-204`, `ord_88`."""
    forms = ("{0}{2}", "{0}{1}-{2}", "{0}-{2}", "{0}{1}{3}", "{2}{0}", "{4}_{2}")
    letter = [rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(2)]
    return rng.choice(forms).format(
        *letter, rng.randint(1, 999), rng.randint(1000, 99_999), words.made_up(rng, "train", 1)
    )


# -- forms -------------------------------------------------------------------------------------------------------------


def _field(rng: Random) -> tuple[str, str, Any, str]:
    """Draw a field: its name, its type, its value, a clause that says it of somebody."""
    names = invented_names(rng) if rng.random() < 0.6 else SEEN
    roll = rng.randrange(7)
    if roll == 0:
        return rng.choice(("age", "years")), "integer", (age := rng.randint(3, 99)), f"is {age} years old"
    if roll == 1:
        town = rng.choice(names.towns)
        key, form = rng.choice((("town", "lives in {0}"), ("city", "is from {0}"), ("place", "works in {0}")))
        return key, "string", town, form.format(town)
    if roll == 2:
        room = rng.randint(2, 999)
        return rng.choice(("room", "room_number")), "integer", room, f"sits in room {room}"
    if roll == 3:
        order = code(rng)
        key = rng.choice(("order", "order_id", "id", "code"))
        return key, "string", order, rng.choice((f"has order {order}", f"asks about {order}", f"has the code {order}"))
    if roll == 4:
        item = rng.choice(names.items)
        return rng.choice(("item", "product", "thing")), "string", item, f"wants {words.an(item)}"
    if roll == 5:
        count = rng.randint(2, 400)
        item = rng.choice(names.items)
        return rng.choice(("count", "amount", "quantity")), "integer", count, f"buys {count} {words.plural(item)}"
    key, word = words.english(rng, "train"), str(invented.value(rng, "train")[1])
    return key, "string", word, rng.choice((f"has the {key} {word}", f"says the {key} is {word}"))


def _filled(rng: Random) -> tuple[str, list[invented.Argument]]:
    """Draw a text about somebody, and the fields that it fills; sometimes it says more than that."""
    names = invented_names(rng) if rng.random() < 0.6 else SEEN
    who = rng.choice(names.people)
    key = rng.choice(("name", "person", "guest", "who"))
    fields, clauses = [invented.Argument(key, "string", who)], list[str]()
    want = rng.choices((1, 2, 3), (3, 3, 2))[0]
    while len(fields) <= want:
        name, kind, value, clause = _field(rng)
        if name not in {each.name for each in fields}:
            fields.append(invented.Argument(name, kind, value))
            clauses.append(clause)
    if rng.random() < 0.25:
        extra = _field(rng)
        if extra[0] not in {each.name for each in fields}:
            clauses.append(extra[3])
    rng.shuffle(clauses)
    if rng.random() < 0.5:
        text = f"{who} {words.joined(clauses)}."
    else:
        text = " ".join(
            f"{who if place == 0 else rng.choice(('He', 'She', 'They', who))} {clause}."
            for place, clause in enumerate(clauses)
        )
    rng.shuffle(fields)
    return text, fields


_EXTRACT = (
    "{0}",
    "Extract the data: {0}",
    "{0} Fill in the form.",
    "{0} Give me that as data.",
    "Read this: {0}",
    "What does it say? {0}",
    "{0} Please note it.",
)


_NUMBERS = ("total", "result", "answer", "sum", "value", "number", "count", "amount")
_WORDS = ("answer", "result", "name", "who", "value")
"""Fields of what is worked out, a number or a word."""

_NOTES = ("note", "unit", "topic", "tag")
_LARGEST = 10_000  # what schemas of made-up fields allow
_TERSE_STEPS = 2
"""Steps that are worked out without a word, as Instruct has to before a call: no more are learned from it."""


def _worked_out(rng: Random, template: Template) -> tuple[str, list[invented.Argument], tuple[Working, ...]]:
    """Draw a question, a form for what comes out, at times with a field that the text says, and the working."""
    while True:
        item = practice(rng, rng.choice(FAMILIES))
        small = isinstance(item.answer, str) or item.answer < _LARGEST
        if item.split == "train" and small and (template == "thinking" or len(item.work) <= _TERSE_STEPS):
            break
    number = isinstance(item.answer, int)
    name = rng.choice(_NUMBERS if number else _WORDS)
    fields = [invented.Argument(name, "integer" if number else "string", item.answer)]
    text = item.prompt
    if rng.random() < 0.25:
        said = words.english(rng, "train")
        fields.append(invented.Argument(rng.choice(_NOTES), "string", said))
        text = f"{text} The {fields[1].name} is {said}."
        rng.shuffle(fields)
    elif item.family == "chain" and rng.random() < 0.5:
        # "Start with 7. Add 5." is asked for by the form alone.
        text = ".".join(text.split(".")[:-1]) + "." if text.endswith("?") and text.count(".") > 1 else text
    return text, fields, item.work


def draw_form(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Draw a text and its form, as a tool of a class's name or as a JSON object."""
    worked = rng.random() < 0.4
    if worked:
        text, fields, work = _worked_out(rng, template)
        titles: tuple[str, ...] = ("Total", "Result", "Answer", "Sum", "Solution")
    else:
        text, fields = _filled(rng)
        work, titles = (), ("Person", "Order", "Info")
    value = {each.name: each.value for each in fields}
    title = rng.choice((words.english(rng, "train").capitalize(), words.made_up(rng, "train").capitalize(), *titles))
    schema = invented.schema(
        rng, "train", fields, form=rng.choice(("class", "class", "dict", "tool")), optional=rng.random() < 0.1
    )
    prompt, thinking = (text if worked else rng.choice(_EXTRACT).format(text)), template == "thinking"
    found = thoughts.worked(work, style)
    if rng.random() < 0.45:
        thought = "" if style < thoughts.EMPTY else found or "I write it as JSON."
        turn = Turn("assistant", json.dumps(value, ensure_ascii=False), thought if thinking else None)
        note = SCHEMA_NOTE + json.dumps({"title": title, **schema}, ensure_ascii=False)
        return TrainingDialogue([Turn("user", prompt), turn], (), note, template, "form")
    spec = ToolSpec(title, rng.choice(("", f"{title} data.", f"A {title.lower()}.", "What the text says.")), schema)
    thought = "" if style < thoughts.EMPTY else f"{found}\nI fill in {title}.".lstrip()
    turn = Turn("assistant", "", thought if thinking else None, ((title, value),))
    return TrainingDialogue([Turn("user", prompt), turn], (spec,), "", template, "form")


# -- ids, many tools, none that fits -----------------------------------------------------------------------------------


def with_code(rng: Random, use: novel.Novel) -> novel.Novel:
    """Put an id of letters and digits in place of one of the texts of a tool's use."""
    texts = [key for key, value in use.arguments.items() if isinstance(value, str)]
    if not texts:
        return use
    key = rng.choice(texts)
    old, new = str(use.arguments[key]), code(rng)
    if use.prompt.count(old) != 1:
        return use
    return novel.Novel(use.spec, use.subject, use.prompt.replace(old, new), {**use.arguments, key: new}, use.result)


NO_TOOL = (
    "I have no tool for that, sorry.",
    "None of my tools can do that, sorry.",
    "I cannot find that out with the tools I have.",
)
"""What is said where no tool fits."""


def draw_crowd(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Ask for one call with up to eighteen made-up tools bound, ids among its values; a tenth of these fit none."""
    count = rng.choices((1, 2, 3, 5, 7, 9, 12, 18), (3, 4, 4, 4, 3, 2, 1, 1))[0]
    tools = [with_code(rng, use) for use in novel.novel_tools(rng, "train", count, named=0.4)]
    thinking = template == "thinking"
    asked = tools[0]
    if count > 1 and rng.random() < 0.11:
        specs = [use.spec for use in tools[1:]]
        rng.shuffle(specs)
        thought = "" if style < thoughts.EMPTY else "No tool here finds that."
        turn = Turn("assistant", rng.choice(NO_TOOL), thought if thinking else None)
        return TrainingDialogue([Turn("user", asked.prompt), turn], tuple(specs), "", template, "crowd")
    specs = [use.spec for use in tools]
    rng.shuffle(specs)
    called = ((asked.spec.name, asked.arguments),)
    thought = "" if style < thoughts.EMPTY else f"I call {asked.spec.name}." if style < thoughts.LINES else _need(asked)
    turns = [Turn("user", asked.prompt), Turn("assistant", "", thought if thinking else None, called)]
    if rng.random() < 0.5:
        found = "" if style < thoughts.EMPTY else f"I have all I need: {asked.result}."
        turns.append(Turn("tool", asked.result))
        turns.append(Turn("assistant", f"The answer is {asked.result}.", found if thinking else None))
    return TrainingDialogue(turns, tuple(specs), "", template, "crowd")


def _need(use: novel.Novel) -> str:
    values = " and ".join(str(value) for value in use.arguments.values())
    return f"I call {use.spec.name} with {values}." if values else f"I call {use.spec.name}."


_SHORT = (
    "What is {0}?",
    "What is {0}?",
    "Tell me {0}.",
    "Find {0}.",
    "I need {0}.",
    "Can you find {0}?",
    "Look up {0}.",
    "{0}?",
    "{0}, please.",
    "Do you know {0}?",
    "I would like to know {0}.",
)
"""How people ask for one thing in a few words."""


def draw_short(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Ask in a few words for a lookup of the catalogue, with its tool among up to four, or, in one of ten, without.

    Both are asked in the same words: what tells them apart is which tools are bound. Were more of them without, the
    pair would refuse what it has a tool for.
    """
    fits = rng.random() < 0.9
    asked, *others = rng.sample(tuple(CATALOGUE.values()), rng.randint(1 if fits else 2, 4))
    names = invented_names(rng) if rng.random() < 0.5 else SEEN
    lookup = asked.ask(rng, names)
    prompt = rng.choice(_SHORT).format(lookup.phrase)
    specs = [kind.spec for kind in ((asked, *others) if fits else others)]
    rng.shuffle(specs)
    if fits:
        result = asked.answer(World(rng.getrandbits(32)), lookup.arguments, names)
        call = PlannedCall(lookup.tool, lookup.arguments, result)
        task = AgentTask("route", "short", prompt, (), (call,), (result,), reply=words.reply_of((result,)))
        return TrainingDialogue(task_turns(rng, task, template, style), tuple(specs), "", template, "short")
    thought = "" if style < thoughts.EMPTY else f"No tool here finds {lookup.phrase}."
    turn = Turn("assistant", rng.choice(NO_TOOL), thought if template == "thinking" else None)
    return TrainingDialogue([Turn("user", prompt), turn], tuple(specs), "", template, "short")
