"""What happens to a number in the prompt of an agent task: sentences to read and operations to work out.

A terse worker does one or two small operations and fails at several with carries up to 9,999; step by step they are all
doable. So how many there are, and whether they are hard, decides how deep a step must be thought about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

from dami_agent.tasks.task import Operation

EASY_MOST = 2
"""Up to so many operations are small ones; more are hard ones."""

SPANS = (1, 2, 3, 5, 5, 5, 5, 7)
HELD_SPAN = 4
"""How many operations in training, hard ones in three of four cases; how many only in the test of unseen lengths."""

Forms = Mapping[str, tuple[str, ...]]

STUFF: Mapping[str, Forms] = {
    "stock": {
        "+": ("{0} come in.", "{0} more are made.", "{0} are brought back.", "We buy {0} more."),
        "-": ("{0} are sold.", "{0} are broken.", "{0} are given away.", "We lose {0}."),
        "*": ("Then there are {0} times as many.", "We trade them for {0} times as many."),
    },
    "money": {
        "+": ("{0} more come in.", "We earn {0}.", "Somebody brings {0} more.", "We find {0} more."),
        "-": ("We spend {0}.", "We give {0} to a friend.", "A repair takes {0}.", "We lose {0}."),
        "*": ("Then it grows to {0} times as much.", "We make {0} times as much of it."),
    },
    "bill": {
        "+": ("Delivery costs {0} more.", "Add a fee of {0}.", "Wrapping costs {0} more."),
        "-": ("Take off a coupon of {0}.", "A friend pays {0} of it.", "There is {0} off."),
        "*": ("We order all of this {0} times.", "Then {0} times as much is ordered."),
    },
    "seats": {
        "+": ("{0} more are added.", "A group gives {0} back.", "{0} come free."),
        "-": ("A group of {0} books.", "{0} are taken.", "{0} are closed."),
        "*": ("Then there are {0} times as many.", "Longer ones come with {0} times as many."),
    },
    "way": {
        "+": ("A detour adds {0} km.", "Then we go {0} km more.", "Add {0} km for the way back."),
        "-": ("A short cut saves {0} km.", "Take off {0} km by ship.", "Somebody else drives {0} km of it."),
        "*": ("All of this is driven {0} times.", "Then it is {0} times as long."),
    },
    "weight": {
        "+": ("A box that weighs {0} is added.", "A book of {0} goes in.", "Put in {0} more."),
        "-": ("Take out {0}.", "{0} is eaten on the way.", "A part of {0} comes out."),
        "*": ("Pack {0} times as much.", "Then it is {0} times as heavy."),
    },
    "number": {
        "+": ("Add {0}.", "Then add {0}."),
        "-": ("Subtract {0}.", "Take away {0}."),
        "*": ("Multiply by {0}.", "Then multiply by {0}."),
    },
}
"""Kind of number -> how it grows, shrinks and multiplies."""


def changes(rng: Random, value: int, count: int, largest: int) -> list[Operation]:
    """Draw `count` operations from `value` on, every value in 1..`largest`; small ones for few, hard ones for many.

    Raises ValueError if `value` is not in 1..`largest`.

    Args:
        rng: the random stream.
        value: the number that they change.
        count: how many.
        largest: the largest value on the way.
    """
    if not 1 <= value <= largest or largest < EASY_MOST + 2:
        raise ValueError(f"{value} is not in 1..{largest}")
    hard = count > EASY_MOST
    work: list[Operation] = []
    for _ in range(count):
        work.append(_change(rng, value, largest, hard))
        value = work[-1].result
    return work


def _change(rng: Random, value: int, largest: int, hard: bool) -> Operation:
    """One operation that stays in range; what is at least 2 from one end of it can always grow or shrink."""
    least, most, factor = (12, 2_500, 39) if hard else (2, 20, 5)
    room = {"+": largest - value, "-": value - 1, "*": (largest if hard else min(largest, 150)) // value}
    weights = {"+": 4, "-": 1 if hard and value < 150 else 4, "*": 3 if hard and value < 150 else 1}
    fits = [symbol for symbol, number in room.items() if number >= (2 if symbol == "*" else least) and value > 1]
    symbol = rng.choices(fits, [weights[each] for each in fits])[0] if fits else max("+-", key=lambda each: room[each])
    if symbol == "*":
        return Operation(value, "*", rng.randint(2, min(factor, room["*"])))
    if hard and value >= 150:
        room["-"] = value - 100
    if hard and value < 100 and symbol == "+":
        least = 100 - value // 2
    most = min(room[symbol], most)
    sign: Literal["+", "-"] = "+" if symbol == "+" else "-"
    drawn = [Operation(value, sign, rng.randint(min(least, most), most)) for _ in range(2 if hard else 1)]
    return max(drawn, key=_carries)


def _carries(step: Operation) -> int:
    """How many of the last two digits carry (or borrow): these make a sum hard to do at once."""
    found = 0
    for unit in (10, 100):
        left, right = step.left % unit, step.right % unit
        found += left + right >= unit if step.symbol == "+" else left < right
    return found


def said(rng: Random, what: str, work: Sequence[Operation]) -> str:
    """Return the sentences that say `work`, each after a blank and unlike the one before; nothing for no work."""
    text, last = "", ""
    for step in work:
        last = rng.choice([form for form in STUFF[what][step.symbol] if form != last])
        text += f" {last.format(step.right)}"
    return text
