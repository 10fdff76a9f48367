"""What the pair does after its first answer: follow-ups, doubts, thanks.

Questions of the test split are asked once, of Instruct, and the conversations go on from those real answers, right or
wrong. So every λ meets the same conversations:

- **follow-up**: "And now add 5." after a right answer; solved when the reply ends with the new number.
- **doubt**: "Are you sure?" after a right answer, which is to be kept, and after a wrong one, which is to be mended.
- **thanks**: nothing to work out; good when the reply is not empty and has no number in it.

Each is said in words that training has and in words that it never had.

    python -m builtin_pair conversations           # at λ = auto, 0, .5 and 1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from dami_agent.evaluation.runner import stream_seed
from dami_agent.tasks import Question, questions
from dami_agent.tasks.task import final_number

Lambda = float | Literal["auto"]
Messages = list[tuple[str, str]]

FOLLOW_UPS: Mapping[bool, tuple[str, ...]] = {
    True: ("And now add {0}.", "Now add {0}.", "And plus {0}?", "Add {0} more, please."),
    False: ("ok and {0} on top?", "Put {0} more on top of that.", "Raise it by {0}.", "Great, another {0} please"),
}
"""Whether training has the words -> what is said."""

DOUBTS: Mapping[bool, tuple[str, ...]] = {
    True: ("Are you sure?", "Is that correct?", "Check that again, please.", "I think that is wrong."),
    False: ("you sure about this one?", "Positive?", "Could you double-check this?", "My calculator disagrees."),
}
THANKS: Mapping[bool, tuple[str, ...]] = {
    True: ("Thanks", "Thank you!", "Good, thanks."),
    False: ("ta very much", "Thx, you are a star", "That helped a lot, much obliged."),
}

_SPLIT = {True: "known", False: "new"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Hold a conversation whose next reply is judged.

    Attributes:
        kind: ``follow_up``, ``right_doubted``, ``wrong_doubted`` or ``thanks``.
        known: whether training has the last message's words.
        messages: all that was said before the reply.
        good: says whether a reply is.
    """

    kind: str
    known: bool
    messages: Messages
    good: Callable[[str], bool]


def draw(model: Mapping[str, Any], *, count: int = 120, seed: int = 0) -> list[Conversation]:
    """Ask questions of Instruct and go on from its answers.

    Args:
        model: further arguments of ChatDAMI, such as the pair.
        count: questions, of all families and levels in turn.
        seed: of the questions, the words and Instruct's random streams.
    """
    asked = questions("test", count, seed=seed)
    replies = answer(model, [[("user", question.prompt)] for question in asked], 0.0, seed=seed)
    rng = Random(f"conversations:{seed}")
    found: list[Conversation] = []
    for question, reply in zip(asked, replies, strict=True):
        opening: Messages = [("user", question.prompt), ("assistant", reply)]
        right = question.grade(reply)
        for known in (True, False):
            doubt = rng.choice(DOUBTS[known])
            kind = "right_doubted" if right else "wrong_doubted"
            found.append(
                Conversation(kind=kind, known=known, messages=[*opening, ("user", doubt)], good=question.grade)
            )
            if right and isinstance(question.answer, int):
                found.append(_follow_up(rng, question, opening, known))
            found.append(
                Conversation(
                    kind="thanks", known=known, messages=[*opening, ("user", rng.choice(THANKS[known]))], good=_kind
                )
            )
    return found


def _follow_up(rng: Random, question: Question, opening: Messages, known: bool) -> Conversation:
    """Ask for one addition to a right answer."""
    more = rng.randint(2, 30)
    said = rng.choice(FOLLOW_UPS[known]).format(more)
    wanted = int(question.answer) + more
    return Conversation(
        kind="follow_up",
        known=known,
        messages=[*opening, ("user", said)],
        good=lambda reply: final_number(reply) == wanted,
    )


def _kind(reply: str) -> bool:
    return bool(reply.strip()) and re.search(r"\d", reply) is None


def answer(model: Mapping[str, Any], conversations: Sequence[Messages], intensity: Lambda, *, seed: int) -> list[str]:
    """Return the reply to each conversation; a call that fails has an empty one.

    Args:
        model: further arguments of ChatDAMI, such as the pair.
        conversations: messages so far, each ending with the user's.
        intensity: λ of all replies.
        seed: of the random streams.
    """
    from dami_agent import ChatDAMI

    chat = ChatDAMI(reasoning_intensity=intensity, seed=stream_seed("conversations", seed), ledger="off", **dict(model))
    replies = chat.batch([list(each) for each in conversations], {"max_concurrency": 48}, return_exceptions=True)
    return ["" if isinstance(reply, BaseException) else str(reply.text) for reply in replies]


def measure(
    model: Mapping[str, Any], intensities: Sequence[Lambda], *, count: int = 120, seed: int = 0
) -> list[dict[str, Any]]:
    """Return a row for each λ: how many of how many conversations of each kind went well, and how many got no reply.

    Args:
        model: further arguments of ChatDAMI, such as the pair.
        intensities: λs of the judged replies.
        count: questions that the conversations begin with.
        seed: of everything.
    """
    drawn = draw(model, count=count, seed=seed)
    rows = []
    for intensity in intensities:
        replies = answer(model, [each.messages for each in drawn], intensity, seed=seed)
        counts: dict[str, list[bool]] = {}
        for each, reply in zip(drawn, replies, strict=True):
            counts.setdefault(f"{each.kind}, {_SPLIT[each.known]} words", []).append(each.good(reply))
        told = {name: f"{sum(good)}/{len(good)}" for name, good in sorted(counts.items())}
        rows.append({"lambda": intensity, **told, "empty": sum(not reply.strip() for reply in replies)})
    return rows
