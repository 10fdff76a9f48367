"""The words the tasks are made of: pools of English words, and an endless supply of made-up ones."""

from __future__ import annotations

from random import Random

from dami_agent.tasks.task import Split, digest

HER = ("Ana", "Mia", "Eva", "Lena", "Nora", "Sara", "Ida", "Zoe", "Kate", "Rosa", "Alma", "Vera")
HIS = ("Leo", "Tom", "Ben", "Max", "Paul", "Omar", "Finn", "Hugo", "Ivan", "Luca", "Noah", "Emil")
PEOPLE = HER + HIS
HELD_HER = ("Ottilie", "Gudrun", "Philippa", "Ines", "Britta", "Sonja")
HELD_HIS = ("Boris", "Gideon", "Rufus", "Pedro", "Anton", "Ulrich")
HELD_PEOPLE = HELD_HER + HELD_HIS
"""Names that no training question has."""

TOWNS: tuple[str, ...] = (
    "Oslo",
    "Rome",
    "Lima",
    "Bonn",
    "Kyoto",
    "Porto",
    "Turin",
    "Quito",
    "Malmo",
    "Dover",
    "Bern",
    "Riga",
)
TOWNS += ("Delhi", "Cairo", "Perth", "Genoa", "Basel", "Ghent", "Leeds", "Nice", "Tunis", "Accra", "Seoul", "Davos")
HELD_TOWNS = ("Varna", "Hanoi", "Harare", "Gdansk", "Tallinn", "Havana", "Dakar", "Nantes")
"""Towns that no training task has."""

ITEMS: tuple[str, ...] = (
    "lamp",
    "cup",
    "chair",
    "pen",
    "book",
    "bag",
    "coin",
    "apple",
    "stamp",
    "brick",
    "shirt",
    "plate",
    "ticket",
)
ITEMS += ("candle", "marble", "card", "clock", "spoon", "towel", "ball", "ring", "hat", "table", "bottle", "basket")
HELD_ITEMS = ("pulley", "gong", "sextant", "fiddle", "trellis", "goblet", "quilt", "sled")
"""Things that no training question has."""

DISHES = ("soup", "pasta", "bread", "curry", "salad", "pizza", "stew", "cake", "rice", "pie")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

VERBS: tuple[str, ...] = (
    "find",
    "read",
    "list",
    "count",
    "show",
    "fetch",
    "load",
    "send",
    "open",
    "check",
    "make",
    "build",
    "search",
)
VERBS += ("query", "lookup", "compute", "update", "delete", "create", "start", "stop", "measure", "estimate", "report")
VERBS += ("apply", "select", "track", "scan", "print", "sort", "merge", "copy", "rename", "book", "order", "reserve")
NOUNS: tuple[str, ...] = (
    "file",
    "user",
    "code",
    "city",
    "name",
    "color",
    "value",
    "score",
    "order",
    "rate",
    "date",
    "time",
    "page",
)
NOUNS += ("team", "game", "player", "song", "movie", "flight", "hotel", "station", "river", "country", "planet", "star")
NOUNS += ("animal", "bird", "flower", "engine", "motor", "sensor", "level", "index", "table", "record", "client")
NOUNS += ("account", "invoice", "payment", "message", "letter", "note", "title", "author", "topic", "event", "place")
NOUNS += ("address", "number", "status", "height", "weight", "depth", "speed", "volume", "power", "signal", "secret")
NOUNS += ("market", "bank", "company", "school", "library", "museum", "garden", "bridge", "tower", "island", "forest")
NOUNS += ("input", "query", "limit", "source", "target", "field", "group", "product", "model", "version", "language")

_ONSETS: tuple[str, ...] = (
    "b",
    "d",
    "f",
    "g",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "w",
    "z",
    "bl",
    "br",
    "dr",
    "fl",
    "gr",
)
_ONSETS += ("kl", "pl", "pr", "sh", "sk", "st", "th", "tr", "ch", "j", "qu", "x", "c", "y", "")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "oo", "ou", "y")
_CODAS = ("", "", "", "n", "r", "l", "s", "t", "m", "k", "p", "nd", "rt", "st", "ng", "x", "ck")


def word_split(word: str) -> Split:
    """Return the split a name part or value belongs to, whatever its case: no test word is ever seen in training."""
    bucket = digest("word:" + word.lower()) % 10
    return "calibration" if bucket == 8 else "test" if bucket == 9 else "train"


def made_up(rng: Random, split: Split, syllables: int | None = None) -> str:
    """Draw a pronounceable word of 1-3 syllables (at least three letters) that belongs to `split`."""
    while True:
        count = syllables or rng.choices((1, 2, 3), (3, 6, 1))[0]
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))
        if len(word) >= 3 and word_split(word) == split:
            return word


def english(rng: Random, split: Split, pool: tuple[str, ...] = NOUNS) -> str:
    """Draw a word of `pool` that belongs to `split`."""
    while True:
        word = rng.choice(pool)
        if word_split(word) == split:
            return word


def letters(rng: Random, length: int) -> str:
    """Random letters: the hardest thing to copy."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))


def plural(item: str) -> str:
    """English plural, good enough for the pools above."""
    return item + ("es" if item.endswith(("s", "sh", "ch", "x")) else "s")


def joined(parts: list[str] | tuple[str, ...]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def reply_of(answers: list[str] | tuple[str, ...]) -> str:
    """Return the reply that says them: `The answer is 12.`, `The answers are 12 and 7.`."""
    return f"The answer is {answers[0]}." if len(answers) == 1 else f"The answers are {joined(answers)}."


def an(word: str) -> str:
    """Return `a lamp`, `an apple`."""
    return ("an " if word[0] in "aeiou" else "a ") + word
