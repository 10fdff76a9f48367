"""Training documents: every family of dialogue the pair learns from, drawn from one seeded stream.

`draw(rng, family, template, style)` gives a `TrainingDialogue`; `mixtures.py` says how often each is drawn in each
phase. Questions stand here, everything with tools in `tooling.py`.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from builtin_pair.training import asking, conversations, forms, thoughts, tooling
from builtin_pair.training.cut import cut_question, cut_step
from builtin_pair.training.phrasing import rephrased
from builtin_pair.training.render import Template, TrainingDialogue, Turn
from dami_agent.tasks import catalogue, invented, novel, words
from dami_agent.tasks.questions import FAMILIES as QUESTIONS
from dami_agent.tasks.questions import practice
from dami_agent.tasks.questions.sizes import SYMBOLS
from dami_agent.tasks.task import Operation, Question, ToolSpec, split_of


def reply_of(item: Question, *, tersely: bool) -> str:
    """Return the reply to a question: the answer at once, or after the values a terse worker says on the way."""
    said = thoughts.terse(item.work) if tersely else ""
    return f"{said} The answer is {item.answer}.".lstrip()


def question_turns(item: Question, template: Template, style: float) -> list[Turn]:
    """Draw a question: answered tersely under Instruct's template and after an empty thought, else after a thought."""
    if template == "instruct":
        return [Turn("user", item.prompt), Turn("assistant", reply_of(item, tersely=True))]
    thought = thoughts.worked(item.work, style)
    return [Turn("user", item.prompt), Turn("assistant", reply_of(item, tersely=not thought), thought)]


def draw_train_question(rng: Random, family: str = "") -> Question:
    """Draw a question of the training split, of any family or the named one."""
    family = family or rng.choices(QUESTIONS, (3, 3, 3, 2.5, 2.5))[0]
    while True:
        item = practice(rng, family)
        if item.split == "train":
            return item


def _question(rng: Random, template: Template, style: float) -> TrainingDialogue:
    item = draw_train_question(rng)
    tools: tuple[ToolSpec, ...] = ()
    if rng.random() < 0.08:
        names = rng.sample(tuple(catalogue.CATALOGUE), rng.randint(1, 2))
        tools = tuple(catalogue.CATALOGUE[name].spec for name in names)
    turns = question_turns(item, template, style)
    if rng.random() < 0.05:
        earlier = draw_train_question(rng)
        said = Turn("assistant", reply_of(earlier, tersely=True), learn=False)
        turns = [Turn("user", earlier.prompt), said, *turns]
    return TrainingDialogue(turns, tools, tooling.system(rng), template, "question")


def _lookup(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Draw a lookup alone: how it is told must not matter."""
    turns = question_turns(draw_train_question(rng, "lookup"), template, style)
    return TrainingDialogue(turns, (), tooling.system(rng), template, "question")


def _cut(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Draw a thought closed before its end, then the answer; always Thinking's template, which alone opens one."""
    if rng.random() < 0.6:
        return TrainingDialogue(
            cut_question(rng, draw_train_question(rng), style), (), tooling.system(rng), "thinking", "cut"
        )
    task, turns = cut_step(rng, style)
    return TrainingDialogue(turns, tuple(tool.spec for tool in task.tools), tooling.system(rng), "thinking", "cut")


def _drill(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Draw a dozen separate operations as one document: results, equations or taken apart; many facts, few tokens."""
    form = rng.choice(("results", "equations", "steps"))
    steps = [_operation(rng) for _ in range(rng.randint(3, 6) if form == "steps" else rng.randint(6, 14))]
    asked = ", ".join(f"{step.left} {step.symbol} {step.right}" for step in steps)
    if form == "results":
        user, reply = f"Give the results: {asked}.", ", ".join(step.value for step in steps) + "."
    elif form == "equations":
        user, reply = f"Write it out: {asked}.", ", ".join(step.line for step in steps) + "."
    else:
        user, reply = f"Step by step: {asked}.", "\n".join(f"{step.detail}." for step in steps)
    return TrainingDialogue([Turn("user", user), Turn("assistant", reply, "")], (), "", template, "drill")


def _directory(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Return what names have or find, then the name that goes with a word: it is found by a word that stands before it.

    Choosing a tool by its description takes the same, and is learned slowly from tool calls alone: there it is one
    token of some three hundred.
    """
    short, rows, taken = rng.random() < 0.35, dict[str, str](), set[str]()
    while len(rows) < 6 and (len(rows) < 2 or rng.random() < 0.85):
        key = (words.english if rng.random() < 0.5 else words.made_up)(rng, "train")
        name = _word(rng) if short else invented.identifier(rng, "train")
        if key not in taken and not taken.intersection(novel.spoken(name)) and name not in rows:
            taken |= {key, *novel.spoken(name)}
            rows[name] = key
    verb = rng.choice(novel.FINDS)
    form = rng.choice(_SHORT if short else _LONG)
    asides = [word for word in (_word(rng) for _ in range(40)) if word not in taken]
    listed = [form.format(name, key, words.an(rng.choice(asides)), verb) for name, key in rows.items()]
    turns: list[Turn] = []
    for name in rng.sample(tuple(rows), rng.randint(1, len(rows))):
        asks = ("Which has the {0}?", "What is the {0} from?", "{0}?", "I need the {0} for {1}.", "The {0} in {1}?")
        ask = rng.choice(asks).format(rows[name], rng.choice(asides))
        turns += [Turn("user", ask if turns else "\n".join([*listed, ask])), Turn("assistant", name)]
    turns[-1] = Turn("assistant", turns[-1].content, "")
    return TrainingDialogue(turns, (), "", template, "drill")


_SHORT = ("{1} {0}.", "{1}: {0}.", "The {1} is from {0}.", "the {1} of {2}: {0}.")
_LONG = (
    "{3} the {1} of {2}: {0}.",
    '{{"description": "{3} the {1} of {2}.", "name": "{0}"}}',
    '{{"type": "function", "function": {{"description": "{3} the {1} of {2}.", "name": "{0}"}}}}',
)
"""Rows of a directory: the name, its word, another word, a verb."""


def _word(rng: Random) -> str:
    return words.made_up(rng, "train", 1) if rng.random() < 0.6 else words.english(rng, "train")


def _operation(rng: Random) -> Operation:
    """One operation of any size that the questions have, small ones more often."""
    largest = rng.choice((40, 100, 100, 400, 999, 9_999, 99_999))
    while True:
        symbol = rng.choices(SYMBOLS, (4, 4, 3))[0]
        left = rng.randint(2, min(largest, 999) if symbol == "*" else largest)
        right = rng.randint(2, rng.choice((9, 99)) if largest > 99 else 9) if symbol == "*" else rng.randint(2, largest)
        step = Operation(left, symbol, right)
        if 0 <= step.result <= largest:
            return step


def _conversation(rng: Random, template: Template, style: float) -> TrainingDialogue:
    """Go on after an answer: by a follow-up on a number, a doubt, or thanks."""
    item, roll = draw_train_question(rng), rng.random()
    terse = reply_of(item, tersely=rng.random() < 0.5)
    if roll < 0.15:
        return conversations.thanked(rng, item, template, style, terse)
    if roll < 0.7:
        return conversations.doubted(rng, item, template, style, terse)
    while not isinstance(item.answer, int) or item.answer < 2:
        item = draw_train_question(rng)
    terse = reply_of(item, tersely=rng.random() < 0.5)
    return conversations.follow_up(rng, item, template, style, terse)


FAMILIES: dict[str, tooling.Draw] = {
    "question": _question,
    "conversation": _conversation,
    "form": forms.draw_form,
    "crowd": forms.draw_crowd,
    "short": forms.draw_short,
    "request": asking.draw_request,
    "lookup": _lookup,
    "drill": _drill,
    "directory": _directory,
    "cut": _cut,
    **tooling.FAMILIES,
}


REPHRASED = (
    "question",
    "lookup",
    "cut",
    "route",
    "work",
    "hard",
    "novel",
    "composed",
    "crowd",
    "short",
    "conversation",
)
"""Families whose first request is at times asked in other words."""


def draw(rng: Random, family: str, template: Template, style: float) -> TrainingDialogue:
    """Draw a dialogue of a family under a template, at a level of detail; some are asked for in other words.

    Args:
        rng: the random stream.
        family: family of documents.
        template: whose chat template it is rendered with.
        style: level of detail of the thoughts, 0 to 1.
    """
    dialogue = FAMILIES[family](rng, template, style)
    if family in REPHRASED and rng.random() < 0.25:
        turns = list(dialogue.turns)
        place = next(place for place, turn in enumerate(turns) if turn.role == "user")
        told = rephrased(rng, turns[place].content)
        if split_of(told) == "train":
            turns[place] = replace(turns[place], content=told)
            dialogue = replace(dialogue, turns=turns)
    return dialogue
