"""Training documents: every family of dialogue the pair learns from, drawn from one seeded stream.

`draw(rng, family, template, style)` gives a `Dialogue`; `mixture.py` says how often each is drawn in each phase.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from dami_agent.tasks import agent, arithmetic, catalogue, novel, words
from dami_agent.tasks.model import AgentTask, Operation, Question, ToolSpec
from dami_agent.training import thoughts
from dami_agent.training.render import Dialogue, Template, Turn

SYSTEMS = (
    "You are a helpful assistant.",
    "You help with numbers and tools.",
    "Answer in one short sentence.",
    "You are an assistant that uses tools when they help.",
    "Be brief and exact.",
)
_GREETINGS = ("Hello", "hello", "Hi", "hi there", "Good morning", "Hey", "Good evening!", "Hello there.", "Hi!")
_SMALL = (
    "How are you doing?",
    "how do you do",
    "What can you do?",
    "Who are you?",
    "Nice to see you.",
    "Are you there?",
)
_THANKS = ("Thanks", "Thank you!", "thanks a lot", "Great, thank you.", "Good, thanks.")


def _system(rng: Random) -> str:
    roll = rng.random()
    if roll < 0.7:
        return ""
    return rng.choice(SYSTEMS) if roll < 0.9 else sentence(rng)


def sentence(rng: Random) -> str:
    """A sentence of pool and made-up words, for requests the pair cannot serve and for noise in prompts."""
    parts = [
        words.english(rng, "train") if rng.random() < 0.5 else words.made_up(rng, "train")
        for _ in range(rng.randint(2, 9))
    ]
    fillers = ("the", "a", "of", "in", "to", "is", "and", "with", "for", "on", "about", "me", "you")
    mixed = [part for word in parts for part in ((rng.choice(fillers), word) if rng.random() < 0.6 else (word,))]
    return " ".join(mixed).capitalize() + rng.choice((".", "?", ".", ""))


def report(rng: Random) -> str:
    """A short text as tools return them: `It's bloomy and red.`"""
    opening = rng.choice(("It's", "It is", "There's", "That was", "Found", "Done:", "They are", "Saved", "No", "All"))
    parts = [words.made_up(rng, "train") if rng.random() < 0.6 else words.english(rng, "train") for _ in range(2)]
    tail = parts[0] if rng.random() < 0.5 else f"{parts[0]} {rng.choice(('and', 'or', 'in', 'of'))} {parts[1]}"
    return f"{opening} {tail}."


def question_turns(item: Question, template: Template, style: float) -> list[Turn]:
    """A question, answered at once under Instruct's template, after a thought under Thinking's."""
    thought = thoughts.worked(item.work, style) if template == "thinking" else None
    return [Turn("user", item.prompt), Turn("assistant", f"The answer is {item.answer}.", thought)]


def task_turns(rng: Random, task: AgentTask, template: Template, style: float, *, partial: bool = True) -> list[Turn]:
    """An agent task as its reference solution goes; earlier thoughts may have been dropped."""
    thinking, turns = template == "thinking", [Turn("user", task.prompt)]
    kept = 1.0 if not partial or rng.random() < 0.6 else rng.choice((0.0, 0.5))
    stop = len(task.plan) if kept == 1.0 or rng.random() < 0.5 else rng.randint(0, len(task.plan))
    for index, call in enumerate(task.plan[: stop + 1]):
        thought = thoughts.before_call(call, task.plan[:index], style) if thinking else None
        if index < stop and rng.random() >= kept:
            thought = None
        turns.append(Turn("assistant", "", thought, (call.name, call.arguments)))
        if index == stop:
            return turns
        turns.append(Turn("tool", call.result))
    thought = thoughts.before_reply(task.plan, task.work, style) if thinking else None
    return [*turns, Turn("assistant", task.reply, thought)]


def _question(rng: Random, template: Template, style: float) -> Dialogue:
    weights = (8, 3, 1, 1, 1) if template == "instruct" else (4, 3, 3, 2, 2)
    level = rng.choices(arithmetic.LEVELS, weights)[0]
    item = _train_question(rng, level)
    tools: tuple[ToolSpec, ...] = ()
    if rng.random() < 0.12:
        names = rng.sample(tuple(catalogue.CATALOGUE), rng.randint(1, 3))
        tools = tuple(catalogue.CATALOGUE[name].spec for name in names)
    turns = question_turns(item, template, style)
    if rng.random() < 0.06:
        earlier = _train_question(rng, 1)
        turns = [
            Turn("user", earlier.prompt),
            Turn("assistant", f"The answer is {earlier.answer}.", learn=False),
            *turns,
        ]
    return Dialogue(turns, tools, _system(rng), template, "question")


def _drill(rng: Random, template: Template, style: float) -> Dialogue:
    """A dozen separate operations in one document, as equations or as results alone: many facts, few tokens."""
    count = rng.randint(6, 14)
    steps = [step for _ in range(count) for step in arithmetic.operations(rng, 1, rng.randint(0, 200), 40)]
    steps = [small if rng.random() < 0.3 else step for step in steps for small in (_product(rng),)]
    asked = ", ".join(f"{step.left} {step.symbol} {step.right}" for step in steps)
    if rng.random() < 0.5:
        user, reply = f"Give the results: {asked}.", ", ".join(str(step.result) for step in steps) + "."
    else:
        user, reply = f"Write it out: {asked}.", ", ".join(step.line for step in steps) + "."
    return Dialogue([Turn("user", user), Turn("assistant", reply, "")], (), "", template, "drill")


def _plain(rng: Random, template: Template, style: float) -> Dialogue:
    """One operation asked as people ask a calculator; at least one number has two digits."""
    step = arithmetic.operations(rng, 1, rng.randint(10, 120), 40)[0] if rng.random() < 0.7 else _product(rng)
    if step.left < 10:
        step = Operation(step.left + 10, "+", step.right)
    word = {"+": "plus", "-": "minus", "*": "times"}[step.symbol]
    sign = step.symbol if rng.random() < 0.5 else word
    form = rng.choice(
        ("What is {0}?", "What is {0}", "How much is {0}?", "{0}", "Work out {0}.", "What does {0} make?")
    )
    item = Question("plain", 1, form.format(f"{step.left} {sign} {step.right}"), step.result, (step,))
    return Dialogue(question_turns(item, template, style), (), _system(rng), template, "plain")


def _product(rng: Random) -> Operation:
    return Operation(rng.randint(2, 50), "*", rng.randint(2, 5))


def _train_question(rng: Random, level: int) -> Question:
    while True:
        item = arithmetic.question(rng, rng.choice(arithmetic.FAMILIES), level)
        if item.split == "train":
            return item


def _agent(kind: agent.Kind) -> Callable[[Random, Template, float], Dialogue]:
    def draw_task(rng: Random, template: Template, style: float) -> Dialogue:
        task = agent.agent_task(rng, kind)
        while task is None or task.split != "train":
            task = agent.agent_task(rng, kind)
        specs = tuple(tool.spec for tool in task.tools)
        return Dialogue(task_turns(rng, task, template, style), specs, _system(rng), template, kind)

    return draw_task


def _novel(rng: Random, template: Template, style: float) -> Dialogue:
    """One call of a made-up tool and the answer that copies its result; sometimes an error or a status text."""
    task = novel.novel_task(rng, "train", bound=rng.choices((1, 2, 3), (8, 1, 1))[0])
    specs = tuple(tool.spec for tool in task.tools)
    turns = task_turns(rng, task, template, style)
    roll = rng.random()
    if turns[-1].call is None and roll < 0.2:
        failed = roll < 0.08
        call, thinking = task.plan[0], template == "thinking"
        text = (
            f"Error: {sentence(rng)}"
            if failed
            else rng.choice(("{0}: {1}", '{{"{0}": "{1}"}}', "The {0} is {1}.")).format(
                words.english(rng, "train"), call.result
            )
        )
        reply = "The tool gave an error, so I have no answer." if failed else task.reply
        if not failed and rng.random() < 0.3:
            text = report(rng)
            reply = f"The answer is {text.removesuffix('.')}."
        thought = thoughts.before_reply(task.plan, (), style) if thinking else None
        turns = [*turns[:-2], Turn("tool", text), Turn("assistant", reply, thought)]
    if rng.random() < 0.08:
        turns = [Turn("user", rng.choice(_GREETINGS)), Turn("assistant", "Hello! How can I help you?"), *turns]
    return Dialogue(turns, specs, _system(rng), template, "novel")


def _chat(rng: Random, template: Template, style: float) -> Dialogue:
    """Greetings, thanks and requests out of reach, with and without tools bound."""
    thought = thoughts.small_talk(style) if template == "thinking" else None
    roll = rng.random()
    if roll < 0.3:
        user, reply = rng.choice(_GREETINGS), "Hello! How can I help you?"
    elif roll < 0.45:
        user, reply = rng.choice(_SMALL), "I am well. I can work with numbers and call tools."
    elif roll < 0.55:
        user, reply = rng.choice(_THANKS), "You are welcome."
    else:
        user, reply = sentence(rng), "I am a small model: I can work with numbers and call tools."
    turns = [Turn("user", user), Turn("assistant", reply, thought)]
    if rng.random() < 0.3:
        turns = [Turn("user", rng.choice(_GREETINGS)), Turn("assistant", "Hello! How can I help you?", thought), *turns]
        if template == "thinking":
            turns[1] = Turn("assistant", turns[1].content)
    tools = (novel.novel_tool(rng, "train")[0].spec,) if rng.random() < 0.25 else ()
    return Dialogue(turns, tools, _system(rng), template, "chat")


def _writing(rng: Random, template: Template, style: float) -> Dialogue:
    """Free text inside JSON: a tool's string arguments made up from the topic, or a JSON object with the asked keys."""
    keys = list(dict.fromkeys(novel.identifier(rng, "train", parts=1) for _ in range(rng.randint(1, 3))))
    topic = words.english(rng, "train") if rng.random() < 0.5 else words.made_up(rng, "train")
    value: dict[str, Any] = {key: f"A {key} about {topic}." for key in keys}
    subject = words.english(rng, "train")
    ask = rng.choice(
        ("Write a {0} about {1}.", "Tell me a {0} about {1}.", "Make a {0} on {1}.", "Give me a {0} about {1}.")
    )
    ask = ask.format(subject, topic)
    thinking = template == "thinking"
    if rng.random() < 0.3:
        quoted = " and ".join(f"'{key}'" for key in keys)
        how = rng.choice(("Reply only with JSON that has the keys {0}.", "Answer as JSON with {0} as keys.")).format(
            quoted
        )
        thought = thoughts.small_talk(style) if thinking else None
        turns = [Turn("user", f"{ask} {how}"), Turn("assistant", json.dumps(value, ensure_ascii=False), thought)]
        return Dialogue(turns, (), _system(rng), template, "writing")
    arguments = [novel.Argument(key, "string", value[key]) for key in keys]
    name = subject.capitalize() if rng.random() < 0.5 else novel.identifier(rng, "train")
    spec = ToolSpec(name, f"A {subject} for the {words.english(rng, 'train')}.", novel.schema(rng, "train", arguments))
    thought = "" if style < thoughts.EMPTY else f"I write it and call {name}."
    turns = [Turn("user", ask), Turn("assistant", "", thought if thinking else None, (name, value))]
    return Dialogue(turns, (spec,), _system(rng), template, "writing")


FAMILIES: dict[str, Callable[[Random, Template, float], Dialogue]] = {
    "question": _question,
    "drill": _drill,
    "plain": _plain,
    "route": _agent("route"),
    "work": _agent("work"),
    "novel": _novel,
    "chat": _chat,
    "writing": _writing,
}
"""Family -> generator (random stream, template, level of detail)."""


def draw(rng: Random, family: str, template: Template, style: float) -> Dialogue:
    """One dialogue of a family."""
    return FAMILIES[family](rng, template, style)
