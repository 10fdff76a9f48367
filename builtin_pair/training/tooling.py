"""Documents with tools, small talk and free text: what the pair learns to call, to report and to chat from.

Every generator has the signature (random stream, template, level of detail) -> `Dialogue`. The texts around the work
stand here; the turns of a task are in `calling.py`, the work itself is written by `thoughts.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

from builtin_pair.composed import composed_chain, composed_work
from builtin_pair.training import smalltalk, thoughts
from builtin_pair.training.calling import before_reply, labelled, task_turns
from builtin_pair.training.render import Template, TrainingDialogue, Turn
from dami_agent.tasks import invented, novel, words
from dami_agent.tasks.agent import Kind, agent_task
from dami_agent.tasks.task import AgentTask, ToolSpec
from dami_agent.tasks.world import invented_names

Draw = Callable[[Random, Template, float], TrainingDialogue]

SYSTEMS = (
    "You are a helpful assistant.",
    "You help with numbers and tools.",
    "Answer in one short sentence.",
    "You are an assistant that uses tools when they help.",
    "Be brief and exact.",
)


def system(rng: Random) -> str:
    """Draw a system prompt, or none."""
    roll = rng.random()
    if roll < 0.7:
        return ""
    return rng.choice(SYSTEMS) if roll < 0.9 else sentence(rng)


def sentence(rng: Random) -> str:
    """Draw a sentence of pool and made-up words, for requests the pair cannot serve and for noise in prompts."""
    parts = [
        words.english(rng, "train") if rng.random() < 0.5 else words.made_up(rng, "train")
        for _ in range(rng.randint(2, 9))
    ]
    fillers = ("the", "a", "of", "in", "to", "is", "and", "with", "for", "on", "about", "me", "you")
    mixed = [part for word in parts for part in ((rng.choice(fillers), word) if rng.random() < 0.6 else (word,))]
    return " ".join(mixed).capitalize() + rng.choice((".", "?", ".", ""))


def report(rng: Random) -> str:
    """Draw a short text as tools return them: `It's bloomy and red.`."""
    opening = rng.choice(("It's", "It is", "There's", "That was", "Found", "Done:", "They are", "Saved", "No", "All"))
    parts = [words.made_up(rng, "train") if rng.random() < 0.6 else words.english(rng, "train") for _ in range(2)]
    tail = parts[0] if rng.random() < 0.5 else f"{parts[0]} {rng.choice(('and', 'or', 'in', 'of'))} {parts[1]}"
    return f"{opening} {tail}."


def draw_agent(kind: Kind) -> Draw:
    """Documents of agent tasks over the catalogue."""

    def draw(rng: Random, template: Template, style: float) -> TrainingDialogue:
        names = invented_names(rng) if rng.random() < 0.5 else None
        task = agent_task(rng, kind, names=names)
        while task is None or task.split != "train":
            task = agent_task(rng, kind, names=names)
        specs = tuple(tool.spec for tool in task.tools)
        return TrainingDialogue(task_turns(rng, task, template, style), specs, system(rng), template, kind)

    return draw


# -- tools never seen ------------------------------------------------------------------------------------------------


def draw_novel(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Draw calls of made-up tools and the answer that copies the results; sometimes an error or a status text."""
    roll = rng.random()
    if roll < 0.4:
        return _chosen(rng, template, style)
    if roll < 0.45:
        task = novel.novel_mended(rng, "train", bound=rng.choice((1, 1, 2)))
    elif roll < 0.57:
        task = novel.novel_pair(rng, "train", bound=rng.choice((1, 2, 2)))
    else:
        task = novel.novel_task(rng, "train", bound=rng.choices((1, 2, 3), (3, 3, 5))[0])
    turns = task_turns(rng, task, template, style)
    if len(task.plan) == 1 and not turns[-1].calls and rng.random() < 0.2:
        turns = _other_end(rng, task, template, style, turns)
    if rng.random() < 0.08:
        turns = [*smalltalk.greeting(rng), *turns]
    specs = tuple(tool.spec for tool in task.tools)
    return TrainingDialogue(turns, specs, system(rng), template, "novel")


def draw_composed(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Draw calls of made-up tools that build on each other as nothing else here does, or work on what they find."""
    task = composed_chain(rng, "train") if rng.random() < 0.55 else composed_work(rng, "train")
    turns = task_turns(rng, task, template, style, noun=labelled)
    if rng.random() < 0.05:
        turns = [*smalltalk.greeting(rng), *turns]
    specs = tuple(tool.spec for tool in task.tools)
    return TrainingDialogue(turns, specs, system(rng), template, "composed")


def _chosen(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Three or four tools and one to three requests in turn, most of them by what a tool is described to do.

    Under Thinking's template only the last is learned: the thoughts of earlier turns are gone.
    """
    bound = rng.choice((3, 3, 4))
    count = rng.randint(1, 2) if template == "thinking" else rng.randint(1, 3)
    tasks = novel.novel_tasks(rng, "train", count, bound=bound, named=0.15)
    turns: list[Turn] = []
    for task in tasks:
        turns = [replace(turn, thought=None) for turn in turns]
        turns += task_turns(rng, task, template, style, partial=False)
    specs = tuple(tool.spec for tool in tasks[0].tools)
    return TrainingDialogue(turns, specs, system(rng), template, "novel")


def _other_end(rng: Random, task: AgentTask, template: Template, style: float, turns: list[Turn]) -> list[Turn]:
    """Return the same call with an error, a short report or a labelled value instead of the bare result."""
    call, thinking, roll = task.plan[0], template == "thinking", rng.random()
    if roll < 0.35:
        text, reply = f"Error: {sentence(rng)}", "The tool gave an error, so I have no answer."
        thought = "" if style < thoughts.EMPTY else "The tool gave an error and says nothing I could ask for."
    else:
        if roll < 0.6:
            text = report(rng)
            found = text.removesuffix(".")
        else:
            form = rng.choice(("{0}: {1}", '{{"{0}": "{1}"}}', "The {0} is {1}."))
            text, found = form.format(words.english(rng, "train"), call.result), call.result
        reply, thought = f"The answer is {found}.", before_reply(task.rounds, (), (found,), style)
    return [*turns[:-2], Turn("tool", text), Turn("assistant", reply, thought if thinking else None)]


# -- small talk and free text ----------------------------------------------------------------------------------------


def draw_chat(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Greetings, thanks, questions about itself and requests out of reach, with and without tools bound."""
    thought = small_talk(style) if template == "thinking" else None
    user, reply = (sentence(rng), rng.choice(smalltalk.REFUSALS)) if rng.random() < 0.35 else smalltalk.exchange(rng)
    turns = [Turn("user", user), Turn("assistant", reply, thought)]
    if rng.random() < 0.3:
        turns = [*smalltalk.greeting(rng), *turns]
    tools = (novel.novel_tool(rng, "train").spec,) if rng.random() < 0.25 else ()
    return TrainingDialogue(turns, tools, system(rng), template, "chat")


def small_talk(style: float) -> str:
    """Return the thought before a reply that needs no working."""
    if style < thoughts.EMPTY:
        return ""
    return "No tool is needed here." if style < thoughts.LINES else "This is small talk. No tool is needed here."


def draw_writing(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Free text inside JSON: a tool's or form's text fields made up from the topic, or a JSON object as asked for."""
    if rng.random() < 0.2:
        return _entry(rng, template, style)
    keys = list(dict.fromkeys(invented.identifier(rng, "train", parts=1) for _ in range(rng.randint(1, 3))))
    topic = words.english(rng, "train") if rng.random() < 0.5 else words.made_up(rng, "train")
    subject, value = words.english(rng, "train"), {key: f"A {key} about {topic}." for key in keys}
    forms = ("Write a {0} about {1}.", "Tell me a {0} about {1}.", "Make a {0} on {1}.", "Give me a {0} about {1}.")
    ask, thinking = rng.choice(forms).format(subject, topic), template == "thinking"
    arguments = [invented.Argument(key, "string", value[key]) for key in keys]
    form = invented.schema(rng, "train", arguments, form=rng.choice(_FORMS), optional=rng.random() < 0.15)
    name = subject.capitalize() if rng.random() < 0.5 else invented.identifier(rng, "train")
    if rng.random() < 0.35:
        thought = "" if style < thoughts.EMPTY else "I write it as JSON."
        turn = Turn("assistant", json.dumps(value, ensure_ascii=False), thought if thinking else None)
        if rng.random() < 0.4:
            note = _SCHEMA_NOTE + json.dumps({"title": name, **form}, ensure_ascii=False)
            return TrainingDialogue([Turn("user", ask), turn], (), note, template, "writing")
        quoted = " and ".join(f"'{key}'" for key in keys)
        how = rng.choice(_AS_JSON).format(quoted)
        return TrainingDialogue([Turn("user", f"{ask} {how}"), turn], (), system(rng), template, "writing")
    spec = ToolSpec(name, rng.choice(("A {0} for the {1}.", "{0} to {1} people.")).format(subject, topic), form)
    thought = "" if style < thoughts.EMPTY else f"I write it and call {name}."
    turn = Turn("assistant", "", thought if thinking else None, ((name, value),))
    return TrainingDialogue([Turn("user", ask), turn], (spec,), system(rng), template, "writing")


_FORMS: tuple[invented.Form, ...] = ("tool", "class", "dict")
_AS_JSON = (
    "Reply only with JSON that has the keys {0}.",
    "Answer as JSON with {0} as keys.",
    "Give the answer as JSON with {0}.",
)
_SCHEMA_NOTE = "Answer with JSON that follows this schema:\n"
"""How the chat model asks for a schema."""


def _entry(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Draw a name in any script and words about it, both copied into a call: `Enter a shop named '...' - a ...`."""
    thing, kind = words.english(rng, "train"), f"{words.made_up(rng, 'train')} {words.english(rng, 'train')}"
    native = invented.foreign(rng, most=8) if rng.random() < 0.75 else words.made_up(rng, "train").capitalize()
    gloss = f" ({words.made_up(rng, 'train').capitalize()} {words.english(rng, 'train').capitalize()})"
    gloss = gloss if rng.random() < 0.6 else ""
    verb, mark = rng.choice(("Add", "Enter", "Make", "Register", "Note", "Save")), rng.choice(("'", '"', "'"))
    forms = ("{0} a {1} named {2}{3} - a {4}", "{0} the {1} {2}{3}, a {4}.", "{0} a {1} called {2}{3}: a {4}.")
    prompt = rng.choice(forms).format(verb, thing, f"{mark}{native}{mark}", gloss, kind)
    first = rng.choice((f"{thing}_name", "name", "title", f"{thing}Name"))
    second = rng.choice(("about", "note", "details", "text", "kind", "info"))
    value = {first: native, second: f"A {kind}"}
    arguments = [invented.Argument(key, "string", text) for key, text in value.items()]
    name = rng.choice((f"{thing}_{words.made_up(rng, 'train')}", invented.identifier(rng, "train")))
    spec = ToolSpec(name, f"{verb} a {thing}.", invented.schema(rng, "train", arguments, optional=False))
    thought = "" if style < thoughts.EMPTY else f"I call {name}."
    turn = Turn("assistant", "", thought if template == "thinking" else None, ((name, value),))
    return TrainingDialogue([Turn("user", prompt), turn], (spec,), system(rng), template, "writing")


FAMILIES: dict[str, Draw] = {
    "route": draw_agent("route"),
    "work": draw_agent("work"),
    "hard": draw_agent("hard"),
    "novel": draw_novel,
    "composed": draw_composed,
    "chat": draw_chat,
    "writing": draw_writing,
}
"""Family -> generator."""
