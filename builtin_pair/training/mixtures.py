"""How often each family of documents is drawn in each phase, under which template, at which levels of detail."""

from __future__ import annotations

from dataclasses import replace

from builtin_pair.training import thoughts
from builtin_pair.training.data import Mixture, Part

EARLY: Mixture = (
    Part("question", "instruct", 1.6),
    Part("question", "thinking", 1.6),
    Part("drill", "instruct", 0.4),
    Part("route", "instruct", 0.8),
    Part("route", "thinking", 0.8),
    Part("work", "instruct", 0.5),
    Part("work", "thinking", 0.6),
    Part("novel", "instruct", 2.4),
    Part("novel", "thinking", 1.6),
    Part("chat", "instruct", 0.25),
    Part("chat", "thinking", 0.25),
    Part("writing", "instruct", 0.35),
    Part("writing", "thinking", 0.3),
    Part("composed", "instruct", 0.8),
    Part("composed", "thinking", 0.6),
)
"""Tools first: copying and calling take long to learn and are not forgotten."""

LATE: Mixture = (
    Part("question", "instruct", 4.0),
    Part("question", "thinking", 3.8),
    Part("drill", "instruct", 0.8),
    Part("drill", "thinking", 0.2),
    Part("route", "instruct", 0.5),
    Part("route", "thinking", 0.5),
    Part("work", "instruct", 0.6),
    Part("work", "thinking", 0.9),
    Part("novel", "instruct", 1.6),
    Part("novel", "thinking", 0.8),
    Part("directory", "instruct", 1.0),
    Part("chat", "instruct", 0.12),
    Part("chat", "thinking", 0.12),
    Part("writing", "instruct", 0.2),
    Part("writing", "thinking", 0.15),
    Part("composed", "instruct", 1.0),
    Part("composed", "thinking", 0.9),
    Part("lookup", "instruct", 0.3),
    Part("lookup", "thinking", 0.4),
    Part("hard", "instruct", 0.8),
    Part("hard", "thinking", 1.0),
    Part("conversation", "instruct", 0.4),
    Part("conversation", "thinking", 0.3),
    Part("form", "instruct", 0.3),
    Part("form", "thinking", 0.2),
    Part("crowd", "instruct", 0.25),
    Part("crowd", "thinking", 0.2),
    Part("short", "instruct", 0.4),
    Part("short", "thinking", 0.4),
    Part("request", "instruct", 2.5),
    Part("request", "thinking", 2.5),
    Part("cut", "thinking", 0.8),
)
"""Arithmetic last: it takes longest."""

LAST: Mixture = (
    Part("question", "instruct", 5.4),
    Part("question", "thinking", 6.4),
    Part("drill", "instruct", 0.8),
    Part("drill", "thinking", 0.2),
    Part("route", "instruct", 0.5),
    Part("route", "thinking", 0.8),
    Part("work", "instruct", 0.6),
    Part("work", "thinking", 0.9),
    Part("novel", "instruct", 1.4),
    Part("novel", "thinking", 1.2),
    Part("directory", "instruct", 1.0),
    Part("chat", "instruct", 0.12),
    Part("chat", "thinking", 0.12),
    Part("writing", "instruct", 0.15),
    Part("writing", "thinking", 0.12),
    Part("composed", "instruct", 1.2),
    Part("composed", "thinking", 1.4),
    Part("lookup", "instruct", 0.3),
    Part("lookup", "thinking", 0.4),
    Part("hard", "instruct", 1.6),
    Part("hard", "thinking", 2.4),
    Part("conversation", "instruct", 0.8),
    Part("conversation", "thinking", 0.8),
    Part("form", "instruct", 0.5),
    Part("form", "thinking", 0.4),
    Part("crowd", "instruct", 0.4),
    Part("crowd", "thinking", 0.4),
    Part("short", "instruct", 0.5),
    Part("short", "thinking", 0.5),
    Part("request", "instruct", 6.0),
    Part("request", "thinking", 6.0),
    Part("cut", "thinking", 0.8),
)
"""While the rate falls: almost half the tokens are questions, a quarter work after calls, a sixth tools never seen."""

INSTRUCT: Mixture = (
    Part("question", "instruct", 3.2),
    Part("question", "thinking", 0.5, 0.0, 0.0),
    Part("route", "instruct", 0.8),
    Part("route", "thinking", 0.15, 0.0, 0.0),
    Part("work", "instruct", 0.7),
    Part("work", "thinking", 0.15, thoughts.VALUES, thoughts.LINES),
    Part("novel", "instruct", 2.2),
    Part("novel", "thinking", 0.2, 0.0, 0.0),
    Part("chat", "instruct", 0.3),
    Part("writing", "instruct", 0.25),
    Part("composed", "instruct", 0.8),
    Part("composed", "thinking", 0.15, thoughts.VALUES, thoughts.LINES),
    Part("lookup", "instruct", 1.2),
    Part("hard", "instruct", 1.0),
    Part("hard", "thinking", 0.4, thoughts.VALUES, thoughts.LINES),
    Part("conversation", "instruct", 1.0),
    Part("conversation", "thinking", 0.1, 0.0, 0.0),
    Part("form", "instruct", 0.5),
    Part("crowd", "instruct", 0.3),
    Part("short", "instruct", 1.0),
    Part("request", "instruct", 3.2),
    Part("request", "thinking", 0.15, 0.0, 0.0),
    Part("cut", "thinking", 1.1, thoughts.EMPTY, 1.0),
)
"""Under Thinking's template it answers at once, but for tasks that work something out: there it writes equations, so
that a step between the two is not answered from nothing because the steps before it were."""

THINKING: Mixture = (
    Part("question", "thinking", 3.2, 1.0, 1.0),
    Part("question", "instruct", 0.5),
    Part("route", "thinking", 0.8, 1.0, 1.0),
    Part("route", "instruct", 0.15),
    Part("work", "thinking", 1.0, 1.0, 1.0),
    Part("work", "instruct", 0.15),
    Part("novel", "thinking", 2.8, 1.0, 1.0),
    Part("novel", "instruct", 0.3),
    Part("chat", "thinking", 0.3, 1.0, 1.0),
    Part("writing", "thinking", 0.25, 1.0, 1.0),
    Part("composed", "thinking", 1.0, 1.0, 1.0),
    Part("composed", "instruct", 0.2),
    Part("lookup", "thinking", 1.6, 1.0, 1.0),
    Part("hard", "thinking", 1.5, 1.0, 1.0),
    Part("hard", "instruct", 0.2),
    Part("conversation", "thinking", 5.0, 1.0, 1.0),
    Part("conversation", "instruct", 0.1),
    Part("form", "thinking", 0.6, 1.0, 1.0),
    Part("crowd", "thinking", 0.3, 1.0, 1.0),
    Part("short", "thinking", 1.6, 1.0, 1.0),
    Part("request", "thinking", 3.2, 1.0, 1.0),
    Part("request", "instruct", 0.2),
    Part("cut", "thinking", 2.2, thoughts.EMPTY, 1.0),
)


def between(low: Mixture, high: Mixture, share: float) -> Mixture:
    """Return the mixture at `share` of the way from `low` to `high`."""
    weights = {_key(part): part.weight * (1 - share) for part in low}
    for part in high:
        weights[_key(part)] = weights.get(_key(part), 0.0) + part.weight * share
    parts = {_key(part): part for part in (*low, *high)}
    return tuple(replace(parts[key], weight=weight) for key, weight in weights.items() if weight > 0)


def ramp(progress: float) -> Mixture:
    """Return the base's mixture: `EARLY` for a quarter of the run, `LATE` from 60 % on."""
    return between(EARLY, LATE, min(1.0, max(0.0, (progress - 0.25) / 0.35)))


def with_replay(parts: Mixture, share: float) -> Mixture:
    """Return a fine-tuning's mixture with `share` of base-style documents, of all levels of detail."""
    own, base = sum(part.weight for part in parts), sum(part.weight for part in LAST)
    scale = own / base * share / (1 - share)
    return parts + tuple(replace(part, weight=part.weight * scale) for part in LAST)


def _key(part: Part) -> tuple[str, str, float, float]:
    return part.family, part.template, part.low, part.high
