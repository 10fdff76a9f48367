"""Find which rule wins a step, and which tool pays for it.

Rules are looked at in order: those of ``rules`` as written, then the short forms: ``tools`` (first for the tool whose
result is digested, then for the one that must be called), then ``nodes``. The first that matches wins.

One exception: a step that digests the results of several tools (parallel calls) and whose first match is a rule about
a digested tool goes to the **strictest** of the matching rules about digested tools: the one with the lowest upper
bound of λ (a number is its own bound, ``auto`` or nothing is 1), then with the smallest ``max_reasoning_tokens``, then
the first in order.

The step's reasoning is charged to the tool it digests (of several, the one whose rule won; if no rule about them won,
the first), else to the tool it must call, else to ``answer``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dami_agent.patterns import compile_pattern
from dami_agent.policy.challenge import is_challenge
from dami_agent.policy.fields import Level
from dami_agent.policy.frontier import Frontier
from dami_agent.policy.rules import PolicyFile, Rule, Settings, When
from dami_agent.types import Message, Step
from dami_agent.types.record import ANSWER

LONGEST_SEEN = 10_000
"""Characters of the last user message that a rule's pattern sees."""


def tool_errors(messages: Sequence[Message]) -> int:
    """Count the rounds of tool calls in a row, up to the last message, that ended in an error of at least one tool."""
    count, failed, inside = 0, False, False
    for message in reversed(messages):
        if message.role == "tool":
            inside, failed = True, failed or message.status == "error"
        elif message.role == "assistant" and inside:
            if not failed:
                break
            count, failed, inside = count + 1, False, False
        else:
            break
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Holds what rules may ask about a step, found out once."""

    digests: tuple[str, ...]
    calls: str | None
    tools: frozenset[str]
    node: str | None
    tags: frozenset[str]
    metadata: Mapping[str, object]
    step: int | None
    attempt: int
    prompt_characters: int
    messages: int
    last_user_text: str
    structured: bool
    challenge: bool

    @classmethod
    def of(cls, step: Step, attempt: int) -> Facts:
        """Collect the properties that rules can test, for one attempt at a step."""
        bound = [tool.name for tool in step.tools]
        choice = step.tool_choice
        only = bound[0] if choice.mode == "any" and len(bound) == 1 else None
        return cls(
            digests=tuple(dict.fromkeys(step.digested_tools)),
            calls=choice.name if choice.mode == "tool" else only,
            tools=frozenset(bound),
            node=step.run_context.node,
            tags=frozenset(step.run_context.tags),
            metadata=step.run_context.metadata,
            step=step.run_context.step,
            attempt=attempt,
            prompt_characters=sum(len(message.content) for message in step.messages),
            messages=len(step.messages),
            last_user_text=next((m.content for m in reversed(step.messages) if m.role == "user"), "")[
                :LONGEST_SEEN
            ].rstrip("\n"),
            structured=step.structured or step.response_format is not None,
            challenge=is_challenge(step.messages),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Holds the winning rule (None: no rule matches), the others with why not, and who pays."""

    rule: Rule | None
    considered: tuple[str, ...] = field(default=())
    charged_to: str = ANSWER


def all_rules(policy: PolicyFile) -> tuple[Rule, ...]:
    """List every rule in order, the short forms written out."""
    return (
        *policy.rules,
        *(_short(f"tools.{name}", s, When(digests=(name,))) for name, s in policy.tools.items()),
        *(_short(f"tools.{name} (call)", s, When(calls=(name,))) for name, s in policy.tools.items()),
        *(_short(f"nodes.{name}", s, When(node=(name,))) for name, s in policy.nodes.items()),
    )


def _short(name: str, settings: Settings, when: When) -> Rule:
    given = {f: getattr(settings, f) for f in Settings.model_fields if f in settings.model_fields_set}
    return Rule(name=name, when=when, **given)


def match(rules: Sequence[Rule], facts: Facts, frontier: Frontier) -> Match:
    """Find the rule that wins; see the module's text."""
    looked_at = [(rule, first_failed_condition(rule.when, facts)) for rule in rules]
    matching = [rule for rule, reason in looked_at if reason is None]
    winner, lost = (matching[0] if matching else None), "matches too, but comes later"
    if winner is not None and len(facts.digests) > 1 and winner.when.digests:
        winner = min((r for r in matching if r.when.digests), key=lambda r: strictness(r, frontier))
        lost = f"matches too, but {winner.name} is stricter or comes first"
    considered = tuple(f"{rule.name}: {reason or lost}" for rule, reason in looked_at if rule is not winner)
    return Match(rule=winner, considered=considered, charged_to=_charged_to(winner, facts))


def _charged_to(winner: Rule | None, facts: Facts) -> str:
    if facts.digests:
        named = winner.when.digests if winner is not None and winner.when.digests else ()
        return next((name for name in facts.digests if name in named), facts.digests[0])
    return facts.calls or ANSWER


def strictness(settings: Settings, frontier: Frontier) -> tuple[float, float]:
    """Rank settings: the smaller, the stricter; by the highest λ allowed, then by the cap of the thought."""
    if settings.bounds is not None:
        highest = level(settings.bounds[1], frontier)
    elif settings.number is not None:
        highest = float(settings.number)
    else:
        highest = level(settings.effort, frontier) if settings.effort else 1.0
    cap = settings.max_reasoning_tokens
    return highest, math.inf if cap is None else float(cap)


def level(value: Level, frontier: Frontier) -> float:
    """Turn a bound into a number; the frontier knows the λ of an effort."""
    return float(frontier.for_effort(value)) if isinstance(value, str) else float(value)


def first_failed_condition(when: When, facts: Facts) -> str | None:
    """Say which condition fails first, in words; None if all hold."""
    for name, is_one_of in (("digests", facts.digests), ("calls", facts.calls), ("tools", facts.tools)):
        wanted, there = getattr(when, name), _several(is_one_of)
        if wanted is not None and not set(wanted) & set(there):
            return f"{name} {' or '.join(wanted)}, here {', '.join(sorted(there)) or 'none'}"
    if when.node is not None and facts.node not in when.node:
        return f"node {' or '.join(when.node)}, here {facts.node or 'none'}"
    if when.tags is not None and not set(when.tags) <= facts.tags:
        return f"tags {', '.join(sorted(set(when.tags) - facts.tags))} missing"
    for key, value in (when.metadata or {}).items():
        if key not in facts.metadata or not _equal(facts.metadata[key], value):
            return f"metadata {key}={value!r}, here {facts.metadata.get(key)!r}"
    for name in ("step", "attempt", "prompt_characters", "messages"):
        bounds, here = getattr(when, name), getattr(facts, name)
        if bounds is not None and not _within(bounds, here):
            return f"{name} {_range_text(bounds)}, here {here}"
    if when.pattern is not None:
        found = compile_pattern(when.pattern).search(facts.last_user_text)
        if not found:
            return f"pattern {when.pattern!r} {'not found' if found is False else 'not decided in time'}"
    for name in ("structured", "challenge"):
        wanted = getattr(when, name)
        if wanted is not None and wanted != getattr(facts, name):
            return f"{name} is {getattr(facts, name)}".lower()
    return None


def _equal(one: object, other: object) -> bool:
    """Tell whether they are equal; what cannot be compared (an array, a third-party class) is not."""
    try:
        return bool(one == other)
    except Exception:
        return False


def _several(value: str | tuple[str, ...] | frozenset[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _within(bounds: tuple[int | None, int | None], value: int | None) -> bool:
    low, high = bounds
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


def _range_text(bounds: tuple[int | None, int | None]) -> str:
    low, high = bounds
    return str(low) if low == high else f"{'' if low is None else low}..{'' if high is None else high}"
