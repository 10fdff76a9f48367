"""Conversations that go on after an answer: follow-ups, doubts, thanks.

Earlier turns are never learned from. Under Thinking's template their thoughts are gone, as in a chat; a wrong answer
that is doubted was made by a slip of one digit or step, and nobody learns to make it.
"""

from __future__ import annotations

from random import Random

from builtin_pair.training import remarks, smalltalk, thoughts
from builtin_pair.training.render import Template, TrainingDialogue, Turn
from dami_agent.tasks.questions.sizes import SYMBOLS
from dami_agent.tasks.task import Operation, Question, Working

Reply = tuple[str, str]
"""A thought and what is answered."""

_FOLLOWS: dict[str, tuple[str, ...]] = {
    "+": (
        "And now add {0}.",
        "Now add {0}.",
        "Add {0} to that.",
        "And plus {0}?",
        "Add {0} more, please.",
        "What if I add {0}?",
        "Then add {0}. What is it now?",
        "What do you get if you add {0} to it?",
        "Good. Add another {0}.",
        "and {0} more?",
        "{0} more, please",
        "plus {0}",
        "Increase it by {0}.",
        "With {0} extra?",
        "What about {0} more?",
        "ok, {0} more come in",
        "Now {0} are added. And now?",
        "Let us say we get {0} more.",
        "Bump it up by {0}.",
        "Throw in {0} more.",
        "{0} extra on that, please",
        "Then another {0}.",
        "Count {0} more in.",
        "Lift it by {0}, please.",
        "and now {0} further ones",
    ),
    "-": (
        "And now take away {0}.",
        "Now subtract {0}.",
        "Subtract {0} from that.",
        "And minus {0}?",
        "Take {0} away from it.",
        "What if I take away {0}?",
        "What is left if you take away {0}?",
        "{0} less, please.",
        "and {0} less?",
        "minus {0}",
        "Decrease it by {0}.",
        "Without {0} of them?",
        "Now {0} are lost. How many are left?",
        "ok, {0} of them are gone",
        "Take {0} off, please.",
    ),
    "*": (
        "And now multiply by {0}.",
        "Multiply that by {0}.",
        "Times {0}?",
        "And {0} times that?",
        "How much is {0} times as much?",
        "Multiply it by {0}, please.",
        "times {0}",
        "and {0} of those?",
        "{0} times that, please",
    ),
}

_DOUBTS = (
    "Are you sure?",
    "are you sure",
    "Are you sure about that?",
    "Are you really sure?",
    "Sure?",
    "Is that right?",
    "Is that correct?",
    "Can that be right?",
    "Really?",
    "Wait, really?",
    "Check that again, please.",
    "Can you check it?",
    "Please check your answer.",
    "Please verify that.",
    "Double check, please.",
    "I think that is wrong.",
    "That is wrong.",
    "That looks wrong to me.",
    "That does not look right.",
    "Hmm, I do not think so.",
    "I do not believe it.",
    "I got something else.",
    "My friend says it is something else.",
    "Think again.",
    "Are you certain?",
    "No way.",
    "certain?",
    "Honestly?",
    "For real?",
    "Would you bet on it?",
    "You do not seem sure.",
    "I doubt that.",
    "I doubt it, please look again.",
    "Have another look, please.",
    "Look again.",
    "Go over it once more.",
    "Once more, please, to be safe.",
    "Did you check that?",
    "Did you count right?",
    "How sure are you?",
    "Are you positive about that?",
    "Could you go through it again?",
    "Can you confirm that?",
    "Please confirm.",
    "Is this really true?",
    "Is there a mistake in it?",
    "My book says something different.",
    "The teacher disagrees.",
    "A colleague has another result.",
    "That does not match my number.",
    "It should be something else, I think.",
    "sounds off to me",
    "that seems wrong",
    "not sure I believe you",
    "sure about it?",
    "Hmm?",
)
_RIGHT = ("Yes, the answer is {0}.", "Yes, I am sure. The answer is {0}.")
_WRONG = ("No, I made a mistake. The answer is {0}.", "You are right, that was wrong. The answer is {0}.")


def _opening(question: Question, said: str) -> list[Turn]:
    """Return a question and an answer that nobody learns from."""
    return [Turn("user", question.prompt), Turn("assistant", said, None, learn=False)]


def _turn(template: Template, style: float, work: tuple[Working, ...], reply: str, opening: str) -> Turn:
    """Write a reply with the working that the template and level of detail have.

    Args:
        template: Instruct says the values on the way, Thinking thinks.
        style: level of detail.
        work: the steps.
        reply: what is answered.
        opening: first line of a thought that has lines, which says where it begins: at the last answer or anew.
    """
    if template == "instruct":
        said = thoughts.terse(work)
        return Turn("assistant", f"{said} {reply}".lstrip())
    thought = thoughts.worked(work, style)
    if thought and style >= thoughts.EQUATIONS:
        thought = f"{opening}\n{thought}"
    said = "" if thought else thoughts.terse(work)
    return Turn("assistant", f"{said} {reply}".lstrip(), thought)


def follow_up(rng: Random, question: Question, template: Template, style: float, terse: str) -> TrainingDialogue:
    """Ask for one to three operations, one after the other, on the answer of a question with a number.

    Args:
        rng: the stream.
        question: its answer is a whole number.
        template: under Thinking's only the last reply is learned, under Instruct's all but the first.
        style: level of detail.
        terse: the answer to the question as Instruct gives it.
    """
    turns, value = _opening(question, terse), int(question.answer)
    count = rng.choices((1, 2, 3), (5, 3, 1))[0]
    for number in range(count):
        step = _next(rng, value)
        value = step.result
        turns.append(Turn("user", rng.choice(_FOLLOWS[step.symbol]).format(step.right)))
        reply = _turn(template, style, (step,), f"The answer is {value}.", f"It is {step.left} so far.")
        if number < count - 1 and template == "thinking":
            reply = Turn("assistant", f"The answer is {value}.", None, learn=False)
        turns.append(reply)
    if rng.random() < 0.15:
        turns = _thanked(rng, turns, template, style)
    return TrainingDialogue(turns, (), "", template, "conversation")


def _next(rng: Random, value: int) -> Operation:
    """Draw an operation on a value that stays between 0 and 99,999."""
    small = rng.random() < 0.6
    while True:
        symbol = rng.choices(SYMBOLS, (4, 3, 2))[0]
        most = (9 if small else 49) if symbol == "*" else 30 if small else 900
        step = Operation(value, symbol, rng.randint(2, most))
        if 0 <= step.result <= 99_999:
            return step


def _thanked(rng: Random, turns: list[Turn], template: Template, style: float) -> list[Turn]:
    """End a conversation by thanks; what was said before is not learned under Thinking's template."""
    thanks, reply = smalltalk.thanks(rng)
    if rng.random() < 0.5:
        thanks = remarks.thanks(rng)
    thought = None
    if template == "thinking":
        turns = [Turn(turn.role, turn.content, None, learn=False) for turn in turns]
        thought = "" if style < thoughts.EMPTY else "This is small talk. No tool is needed here."
    return [*turns, Turn("user", thanks), Turn("assistant", reply, thought)]


def thanked(rng: Random, question: Question, template: Template, style: float, terse: str) -> TrainingDialogue:
    """Ask a question, answer it, and thank: what comes back has no number in it."""
    return TrainingDialogue(_thanked(rng, _opening(question, terse), template, style), (), "", template, "conversation")


def doubted(rng: Random, question: Question, template: Template, style: float, terse: str) -> TrainingDialogue:
    """Doubt a right or a wrong answer to a question: the right one is kept, the wrong one mended.

    Two of three answers are right. With a thought the question is worked out again and what comes out is compared.
    """
    right = rng.random() < 0.67
    answer = str(question.answer)
    said = terse if right else f"The answer is {_slip(rng, question)}."
    turns = _opening(question, said)
    turns.append(Turn("user", rng.choice(_DOUBTS) if rng.random() < 0.5 else remarks.doubt(rng)))
    reply = rng.choice(_RIGHT if right else _WRONG).format(answer)
    given = said.removesuffix(".").rsplit(" ", 1)[-1]
    turn = _turn(template, style, question.work, reply, f"I said {given}. I begin with the question again.")
    if template == "thinking" and turn.thought and style >= thoughts.LINES:
        verdict = f"I said {given}, that is right." if right else f"I said {given}, that is wrong."
        turn = Turn("assistant", turn.content, f"{turn.thought}\n{verdict}")
    if template == "instruct" or not turn.thought:
        turn = Turn("assistant", reply, turn.thought)
    return TrainingDialogue([*turns, turn], (), "", template, "conversation")


def _slip(rng: Random, question: Question) -> str:
    """Draw a wrong answer as slips make them: a digit, a ten, a step left out; of words one of the question's."""
    if isinstance(question.answer, str):
        words = [step.value for step in question.work if step.value != question.answer and step.value.isalpha()]
        return rng.choice(words) if words else "Nobody"
    value = question.answer
    candidates = [value + step for step in (-10, -2, -1, 1, 2, 10, 100, -100)]
    candidates += [int(step.value) for step in question.work[:-1] if step.value.isdigit()]
    candidates = [each for each in candidates if each >= 0 and each != value]
    return str(rng.choice(candidates))
