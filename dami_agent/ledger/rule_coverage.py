"""Find in the ledger's rows which rules policies have, and which never matched."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dami_agent.ledger.row import CallRow

# How a row says why a rule did not win: the condition that failed, or that it matched and another one won.
_WHY = re.compile(
    r": (?:(?P<matched>matches too, but )|(?:digests|calls|tools|node|tags|metadata|step|attempt|prompt_characters"
    r"|messages|pattern|structured|challenge) )"
)
_CALLED = " (call)"


def unmatched_rules(rows: Sequence[CallRow]) -> dict[str, list[str]]:
    """List rules that matched none of the calls, by policy; a policy whose rules all matched is left out.

    Every call tells the rule that won and, of all others, why they did not, so the rows know their policies' rules, and
    that a rule matched which came after the one that won. A tool's line in a policy is one rule here, whether its
    result is read or it must be called.
    """
    there: dict[str, dict[str, bool]] = {}
    for row in rows:
        if row.policy is None:
            continue
        matched = there.setdefault(row.policy, {})
        if row.rule:
            matched[_line(row.rule)] = True
        for other in row.considered:
            found = _WHY.search(other)
            if found is not None:
                name = _line(other[: found.start()])
                matched[name] = matched.get(name, False) or found["matched"] is not None
    never = {policy: [name for name, ever in rules.items() if not ever] for policy, rules in there.items()}
    return {policy: rules for policy, rules in never.items() if rules}


def _line(rule: str) -> str:
    """Name a rule as its policy does: ``tools.NAME`` is kept as two rules."""
    return rule.removesuffix(_CALLED) if rule.startswith("tools.") else rule
