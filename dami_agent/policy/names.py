"""Check the tool and node names that a policy speaks of against those that there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dami_agent.policy.fields import close_match
from dami_agent.policy.policy import ReasoningPolicy


def unknown_names(
    policy: ReasoningPolicy, tools: Collection[str] | None = None, nodes: Collection[str] | None = None
) -> Iterator[str]:
    """Write one sentence for each name of a tool or node that does not exist, with the name that was probably meant.

    Args:
        policy: its rules and short forms.
        tools, nodes: all there are; None does not check them.
    """
    seen: set[str] = set()
    for rule in policy.all_rules:
        when = rule.when
        for kind, known, wanted in (
            ("tool", tools, (*(when.digests or ()), *(when.calls or ()), *(when.tools or ()))),
            ("node", nodes, when.node or ()),
        ):
            for name in wanted:
                if known is None or name in known or f"{kind} {name}" in seen:
                    continue
                seen.add(f"{kind} {name}")
                yield f"{rule.name}: there is no {kind} {name!r}; {close_match(name, sorted(known))}"
