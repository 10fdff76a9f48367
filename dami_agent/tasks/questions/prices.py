"""Units and prices: bills, change, and amounts in smaller units."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from dami_agent.tasks.questions.sizes import Size, Unseen
from dami_agent.tasks.task import Operation, Question
from dami_agent.tasks.words import an, joined, plural
from dami_agent.tasks.world import SEEN, Names

UNITS: tuple[tuple[str, str, int], ...] = (("hours", "minutes", 60), ("weeks", "days", 7), ("dozens", "pieces", 12))
UNITS += (("feet", "inches", 12), ("years", "months", 12), ("minutes", "seconds", 60))

_ITEMS = {1: (1,), 2: (2,), 3: (2, 4, 4, 4), 4: (4, 5), 5: (5, 6)}
"""Different things on the bill, per level; three are never trained on."""


def draw(rng: Random, level: int, size: Size, unseen: Unseen | None = None, names: Names = SEEN) -> Question:
    """Draw one bill or conversion.

    Unseen templates tell all amounts and prices in one sentence, or a list of prices and ask for amounts.

    Args:
        rng: the random stream.
        level: 1 (easiest) to 5.
        size: how many operations, and how large the numbers.
        unseen: what training never shows of it; None for nothing.
        names: the people, things and towns it talks about.
    """
    if unseen is None and level <= 2 and rng.random() < 0.35:
        return _conversion(rng, level, size)
    count = 3 if unseen == "length" else rng.choice(_ITEMS[level])
    return _bill(rng, level, size, max(count, 2) if unseen == "template" else count, level >= 3, unseen, names)


def practice(rng: Random, size: Size, names: Names) -> Question:
    """Draw a bill or conversion for training, of any trained length with any range of numbers."""
    if rng.random() < 0.3:
        return _conversion(rng, rng.choice((1, 2, 3)), size)
    count = rng.choices((1, 2, 4, 5, 6), (4, 3, 2, 1, 1))[0]
    return _bill(rng, {1: 1, 2: 3, 4: 4}.get(count, 5), size, count, rng.random() < 0.4, None, names)


def _conversion(rng: Random, level: int, size: Size) -> Question:
    """How many minutes are 2 hours and 15 minutes?"""
    big, small, factor = rng.choice(UNITS)
    amount = rng.randint(2, max(2, min(size.factor * level, size.largest // factor)))
    work = [Operation(amount, "*", factor) if amount >= factor else Operation(factor, "*", amount)]
    text = f"{amount} {big}"
    if level >= 2:
        rest = rng.randint(2, max(3, factor - 1))
        work.append(Operation(work[-1].result, "+", rest))
        text += f" and {rest} {small}"
    if level >= 3:
        gone = rng.randint(2, max(2, min(size.addend, work[-1].result - 1)))
        work.append(Operation(work[-1].result, "-", gone))
        prompt = f"Something takes {text}. {gone} {small} are over. How many {small} are left?"
    else:
        forms = ("How many {1} are {0}?", "A trip takes {0}. How many {1} is that?", "What are {0} in {1}?")
        prompt = rng.choice(forms if factor in (60, 7) else forms[::2]).format(text, small)
    return Question("prices", level, prompt, work[-1].result, tuple(work))


def _amounts(rng: Random, size: Size, count: int) -> list[tuple[int, int]]:
    """(price, how many) pairs whose sum stays in range."""
    while True:
        amounts = [rng.randint(2, size.factor) for _ in range(count)]
        pairs = [(rng.randint(2, max(6, min(size.addend, size.largest // count // many))), many) for many in amounts]
        if sum(price * many for price, many in pairs) <= size.largest:
            return pairs


def _bill(
    rng: Random, level: int, size: Size, count: int, change: bool, unseen: Unseen | None, names: Names
) -> Question:
    """Draw a lamp costs 7 euros. A pen costs 3 euros. Mia buys 2 lamps and 4 pens. How much does she pay?"""
    items, pairs = names.some_items(rng, count), _amounts(rng, size, count)
    name, who = names.person(rng)
    work = [Operation(pairs[0][0], "*", pairs[0][1])]
    total = work[0].result
    for index, (price, many) in enumerate(pairs[1:], start=1):
        work.append(Operation(price, "*", many))
        work.append(Operation(total, "+", work[-1].result, said=index == count - 1))
        total = work[-1].result
    ask = rng.choice((f"How much does {who.lower()} pay?", f"What does {who.lower()} pay?"))
    if change:
        given = rng.randint(total + 1, total + max(10, size.addend))
        work.append(Operation(given, "-", total))
        ask = f"{who} has {given} euros. {rng.choice(('How much is left?', 'What is left?'))}"
    bought = [f"{many} {plural(item)}" for item, (_, many) in zip(items, pairs, strict=True)]
    bill = _Bill(name, who, items, bought, [price for price, _ in pairs], ask, change)
    prompt = rng.choice((bill.at_once, bill.from_a_list))() if unseen == "template" else bill.told(rng)
    return Question("prices", level, prompt, work[-1].result, tuple(work), (unseen,) if unseen else ())


@dataclass(frozen=True)
class _Bill:
    """A bill to be told: somebody, things, `2 lamps`, what one costs, and the question."""

    name: str
    who: str
    items: list[str]
    bought: list[str]
    prices: list[int]
    ask: str
    change: bool

    def told(self, rng: Random) -> str:
        """In one of the ways that training has."""
        costs = " ".join(
            f"{an(item).capitalize()} costs {price} euros." for item, price in zip(self.items, self.prices, strict=True)
        )
        buys = f"{self.name} buys {joined(self.bought)}."
        forms = [f"{costs} {buys} {self.ask}", f"{costs} {buys} {self.ask}", f"{buys} {costs} {self.ask}"]
        forms += [self.one_by_one(), self.one_by_one(), self.in_brackets(), f"{self._list()} {buys} {self.ask}"]
        if not self.change:
            forms += [f"How much does {self.name} pay for {joined(self.bought)}? {costs}"] * 2
        return rng.choice(forms)

    def one_by_one(self) -> str:
        """Return `Mia buys 2 lamps at 7 euros each. She also buys 4 pens at 3 euros each.`."""
        first, *others = self._each()
        return " ".join(
            [f"{self.name} buys {first}.", *(f"{self.who} also buys {other}." for other in others), self.ask]
        )

    def in_brackets(self) -> str:
        """Return `Mia buys 2 lamps (7 euros each) and 4 pens (3 euros each).`."""
        texts = [f"{text} ({price} euros each)" for text, price in zip(self.bought, self.prices, strict=True)]
        return f"{self.name} buys {joined(texts)}. {self.ask}"

    def at_once(self) -> str:
        """Return the held-out form: `Mia buys 2 lamps at 7 euros each and 4 pens at 3 euros each.`."""
        return f"{self.name} buys {joined(self._each())}. {self.ask}"

    def from_a_list(self) -> str:
        """Return the other: `Prices: lamp 7 euros, pen 3 euros. How much does Mia pay for 2 lamps and 4 pens?`."""
        if self.change:
            has, left = self.ask.removeprefix(self.who).split(". ")
            return f"{self._list()} {self.name}{has} and buys {joined(self.bought)}. {left}"
        return f"{self._list()} How much does {self.name} pay for {joined(self.bought)}?"

    def _list(self) -> str:
        shown = ", ".join(f"{item} {price} euros" for item, price in zip(self.items, self.prices, strict=True))
        return f"Prices: {shown}."

    def _each(self) -> list[str]:
        return [f"{text} at {price} euros each" for text, price in zip(self.bought, self.prices, strict=True)]
