"""Units and prices: bills, change, and amounts in smaller units."""

from __future__ import annotations

from random import Random

from dami_agent.tasks.model import Operation, Question
from dami_agent.tasks.questions.sizes import Size, Unseen
from dami_agent.tasks.words import an, joined, person, plural, some_items

UNITS: tuple[tuple[str, str, int], ...] = (("hours", "minutes", 60), ("weeks", "days", 7), ("dozens", "pieces", 12))
UNITS += (("feet", "inches", 12), ("years", "months", 12), ("minutes", "seconds", 60))

_ITEMS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4}
"""Different things on the bill, per level; three are never trained on."""


def draw(rng: Random, level: int, size: Size, unseen: Unseen | None = None) -> Question:
    """One bill or conversion; the unseen template is a shopping list, the unseen length three items."""
    if unseen is None and level <= 3 and rng.random() < 0.35:
        return _conversion(rng, level, size)
    count = 3 if unseen == "length" else max(_ITEMS[level], 2) if unseen == "template" else _ITEMS[level]
    return _bill(rng, level, size, count, level in (2, 4, 5), unseen)


def practice(rng: Random, size: Size) -> Question:
    """A bill or conversion for training, of any trained length with any range of numbers."""
    if rng.random() < 0.3:
        return _conversion(rng, rng.choice((1, 2, 3)), size)
    count = rng.choices((1, 2, 4, 5), (4, 3, 2, 1))[0]
    return _bill(rng, {1: 1, 2: 3}.get(count, 5), size, count, rng.random() < 0.4, None)


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
        top = max(6, min(size.addend, size.largest // count // 3))
        pairs = [(rng.randint(2, top), rng.randint(2, size.factor)) for _ in range(count)]
        if sum(price * many for price, many in pairs) <= size.largest:
            return pairs


def _bill(rng: Random, level: int, size: Size, count: int, change: bool, unseen: Unseen | None) -> Question:
    """A lamp costs 7 euros. A pen costs 3 euros. Mia buys 2 lamps and 4 pens. How much does she pay?"""
    items, pairs = some_items(rng, count, held=unseen == "name"), _amounts(rng, size, count)
    name, who = person(rng, unseen == "name")
    work = [Operation(price, "*", many) for price, many in pairs]
    total = work[0].result
    for part in work[1:count]:
        work.append(Operation(total, "+", part.result))
        total = work[-1].result
    ask = f"How much does {who.lower()} pay?"
    if change:
        given = rng.randint(total + 1, total + max(10, size.addend))
        work.append(Operation(given, "-", total))
        ask = f"{who} has {given} euros. How much is left?"
    prompt = _told(rng, items, pairs, name, ask, change, unseen == "template")
    return Question("prices", level, prompt, work[-1].result, tuple(work), (unseen,) if unseen else ())


def _told(
    rng: Random, items: list[str], pairs: list[tuple[int, int]], name: str, ask: str, change: bool, listed: bool
) -> str:
    """The bill in words: prices first, the question first, `at 7 euros each` (one thing only), or as a list."""
    bought = [f"{many} {plural(item)}" for item, (_, many) in zip(items, pairs, strict=True)]
    each = [f"{text} at {price} euros each" for text, (price, _) in zip(bought, pairs, strict=True)]
    if listed:
        return f"{name} buys {joined(each)}. {ask}"
    if len(items) == 1 and rng.random() < 0.4:
        return f"{name} buys {each[0]}. {ask}"
    costs = [f"{an(item).capitalize()} costs {price} euros." for item, (price, _) in zip(items, pairs, strict=True)]
    if not change and rng.random() < 0.3:
        return f"How much does {name} pay for {joined(bought)}? {' '.join(costs)}"
    return f"{' '.join(costs)} {name} buys {joined(bought)}. {ask}"
