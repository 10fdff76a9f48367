"""Budgets of whole runs: one account per agent run or thread, kept in memory, safe to use from many threads.

A step **reserves** before its first token and **settles** after its last. What is reserved counts as spent until then,
so branches that run at the same time never overspend a token budget together, whatever they do.

- Tokens are output tokens, thrown-away probes included. Reasoning tokens are those of the thought without its markers,
  which is what ``max_reasoning_tokens`` of a step caps.
- Under ``taper`` and ``end`` a step may take at most half of what is free, so that steps beside and after it find some;
  ``answer_reserve`` tokens stay out of reach until nothing else is left. The step that finds the budget drained gets
  them: λ=0, tools disabled. Under ``error`` a step may take all that is free, and one that finds nothing fails.
- Seconds count while at least one call of the account is running; they bound a step's deadline.
- Money is what the ledger's rows of the run add up to at the same price. A step sets aside what its tokens and its
  seconds may cost at most (half of its share for each, where both have a price), so it bounds tokens and deadline.
- The last tenth of seconds and money is the final answer's. A prompt's price is only known once it was paid, so money
  may be overshot by one prompt, and seconds and money by one decode step.
- Under ``taper`` λ's ceiling falls from 1, once less than half of any budget is free, to 0, when it is drained.
- A tool's ``run_max_reasoning_tokens`` is hard too; used up, the tool's steps are answered at λ=0.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from dami_agent.errors import BudgetExhausted
from dami_agent.policy.rules import RunBudget
from dami_agent.types import Limits, Usage
from dami_agent.types.price import PER

MOST_ACCOUNTS = 10_000
"""Accounts kept; beyond that the one that was idle longest is forgotten."""

_LAST_TENTH = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What an account has used so far; ``by_tool`` are the reasoning tokens charged to each tool and to ``answer``."""

    tokens: int = 0
    reasoning_tokens: int = 0
    seconds: float = 0.0
    money: float = 0.0
    by_tool: Mapping[str, int] = field(default_factory=dict)
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a step may use: tightened limits, λ's ceiling, whether it must answer without tools, and why."""

    limits: Limits
    ceiling: float = 1.0
    tools_disabled: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A reservation."""

    tokens: int
    reasoning_tokens: int
    seconds: float
    money: float
    charged_to: str


class _Account:
    def __init__(self) -> None:
        self.spent = Spent()
        self.open: dict[Hashable, _Open] = {}
        self.since = 0.0  # when the first of the open calls began

    def reserved(self, name: str, charged_to: str | None = None) -> float:
        held = (o for o in self.open.values() if charged_to in (None, o.charged_to))
        return float(sum(getattr(o, name) for o in held))


class Budgets:
    """The accounts of one policy.

    Args:
        run: the budget of a run or thread.
        tools: ``run_max_reasoning_tokens`` by tool.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        run: RunBudget | None = None,
        tools: Mapping[str, int] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run or RunBudget()
        self.tools = dict(tools or {})
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    @property
    def limited(self) -> bool:
        """Whether there is any budget at all."""
        run = self.run
        ends = (run.max_tokens, run.max_reasoning_tokens, run.max_seconds, run.max_money)
        return bool(self.tools) or any(end is not None for end in ends)

    def spent(self, account: str) -> Spent:
        """What the account has used; open calls count with their seconds so far."""
        with self._lock:
            held = self._accounts.get(account)
            return self._now(held) if held is not None else Spent()

    def reserve(self, account: str, key: Hashable, limits: Limits, charged_to: str) -> Grant:
        """Set aside what a step may use at most; ``limits`` are those it would have without a budget.

        Args:
            account: run or thread.
            key: of this attempt, for :meth:`settle`.
            limits: of the step.
            charged_to: tool or ``answer``.

        Raises:
            BudgetExhausted: nothing is left for this step.
        """
        with self._lock:
            held = self._accounts.setdefault(account, _Account())
            self._accounts.move_to_end(account)
            grant = _Room(self.run, self.tools, held, self._now(held)).grant(limits, charged_to)
            if not held.open:
                held.since = self._clock()
            most = Usage(tokens=grant.limits.max_tokens or 0, device_seconds=grant.limits.deadline or 0.0)
            held.open[key] = _Open(
                tokens=most.tokens,
                reasoning_tokens=grant.limits.max_reasoning_tokens or 0,
                seconds=most.device_seconds,
                money=self.run.price.of(most),
                charged_to=charged_to,
            )
            self._forget()
            return grant

    def settle(self, account: str, key: Hashable, usage: Usage | None) -> None:
        """Charge what an attempt used and free the rest; None: nobody knows, so all that was set aside is charged.

        Does nothing for an attempt that has no reservation (any more).
        """
        with self._lock:
            held = self._accounts.get(account)
            reservation = held.open.get(key) if held is not None else None
            if held is None or reservation is None:
                return
            if usage is None:
                usage = Usage(
                    tokens=reservation.tokens,
                    reasoning_tokens=reservation.reasoning_tokens,
                    device_seconds=reservation.seconds,
                )
            now = self._now(held)
            del held.open[key]
            if not held.open:
                held.spent = dataclasses.replace(held.spent, seconds=now.seconds)
            self._add(held, usage, reservation.charged_to)

    def charge(self, account: str, usage: Usage, charged_to: str) -> None:
        """Put on an account what was used before, without a reservation."""
        with self._lock:
            held = self._accounts.setdefault(account, _Account())
            self._accounts.move_to_end(account)
            self._add(held, usage, charged_to)
            self._forget()

    def _add(self, held: _Account, usage: Usage, tool: str) -> None:
        spent = held.spent
        held.spent = dataclasses.replace(
            spent,
            tokens=spent.tokens + usage.tokens,
            reasoning_tokens=spent.reasoning_tokens + usage.reasoning_tokens,
            money=spent.money + self.run.price.of(usage),
            by_tool={**spent.by_tool, tool: spent.by_tool.get(tool, 0) + usage.reasoning_tokens},
            steps=spent.steps + 1,
        )

    def _now(self, held: _Account) -> Spent:
        """Spent so far, the clock of open calls included."""
        spent = held.spent
        seconds = spent.seconds + (self._clock() - held.since if held.open else 0.0)
        return dataclasses.replace(spent, seconds=seconds)

    def _forget(self) -> None:
        if len(self._accounts) > MOST_ACCOUNTS:
            idle = next((name for name, account in self._accounts.items() if not account.open), None)
            if idle is not None:
                del self._accounts[idle]


@dataclass(frozen=True, slots=True)
class _Room:
    """The free part of every budget at one moment, and what a step gets of it."""

    run: RunBudget
    tools: Mapping[str, int]
    account: _Account
    spent: Spent

    @property
    def _answer_reserve(self) -> int:
        """At most half of the whole budget."""
        whole = self.run.max_tokens
        return self.run.answer_reserve if whole is None else max(1, min(self.run.answer_reserve, whole // 2))

    def free(self, name: str) -> float:
        """Neither spent nor set aside; infinite without a limit."""
        limit = getattr(self.run, f"max_{name}")
        reserved = 0.0 if name == "seconds" else self.account.reserved(name)
        return math.inf if limit is None else limit - getattr(self.spent, name) - reserved

    def left(self) -> dict[str, float]:
        """Share of each limited budget that is free for steps before the final answer, from 1 down to 0 or below."""
        shares = {}
        for name in ("tokens", "reasoning_tokens", "seconds", "money"):
            limit = getattr(self.run, f"max_{name}")
            if limit is None:
                continue
            kept = 2 * self._answer_reserve - 1 if name == "tokens" else _LAST_TENTH * limit
            kept = 0.0 if name == "reasoning_tokens" or self.run.on_exhausted == "error" else kept
            whole = limit - kept
            shares[name] = (self.free(name) - kept) / whole if whole > 0 else 0.0
        return shares

    def grant(self, limits: Limits, charged_to: str) -> Grant:
        shares = self.left()
        drained = sorted(name for name, share in shares.items() if share <= 0)
        self._refuse(drained)
        final = bool(drained) and (self.run.on_exhausted == "end" or drained != ["reasoning_tokens"])
        ceiling, reasons = self._ceiling(shares, drained)
        if self._tool_free(charged_to) <= 0:
            ceiling = 0.0
            reasons.append(f"{charged_to} has used up its reasoning tokens of this {self.run.per}")
        return Grant(
            limits=self._timed(self._capped(limits, charged_to, final), final),
            ceiling=ceiling,
            tools_disabled=final,
            reason="; ".join(reasons),
        )

    def _ceiling(self, shares: Mapping[str, float], drained: list[str]) -> tuple[float, list[str]]:
        if drained:
            return 0.0, [f"{' and '.join(_words(drained))} of this {self.run.per} used up"]
        least = min(shares.values(), default=1.0)
        if self.run.on_exhausted != "taper" or least >= 0.5:
            return 1.0, []
        return 2 * least, [f"{least:.0%} of this {self.run.per}'s budget left"]

    def _tool_free(self, tool: str) -> float:
        if tool not in self.tools:
            return math.inf
        reserved = self.account.reserved("reasoning_tokens", tool)
        return self.tools[tool] - self.spent.by_tool.get(tool, 0) - reserved

    def _refuse(self, drained: list[str]) -> None:
        """Raise where not even a final answer has room."""
        empty = [n for n in drained if n != "reasoning_tokens" and self.free(n) <= 0]
        if self.run.on_exhausted == "error":
            empty = drained
        if empty:
            raise BudgetExhausted(
                f"the {self.run.per}'s budget is used up: no {' and '.join(_words(empty))} left",
                hint=f"raise run.max_{empty[0]} of the policy"
                + ("" if self.run.on_exhausted != "error" else ", or say on_exhausted: end"),
            )

    def _capped(self, limits: Limits, charged_to: str, final: bool) -> Limits:
        tokens = math.inf if limits.max_tokens is None else limits.max_tokens
        thought = math.inf if limits.max_reasoning_tokens is None else limits.max_reasoning_tokens
        shared = self.run.on_exhausted != "error"
        for free in (self.free("tokens"), self._affordable(self.run.price.output / PER)):
            if free == math.inf:
                continue
            reserve = min(self._answer_reserve, free)
            part = reserve if final else max(reserve, math.ceil((free - reserve) / 2))
            tokens = min(tokens, max(1, int(part if shared else free)))
        left = self.free("reasoning_tokens")
        part = math.ceil(left / 2) if shared and left != math.inf else left
        thought = 0 if final else min(thought, part, self._tool_free(charged_to))
        return dataclasses.replace(
            limits,
            max_tokens=None if tokens == math.inf else int(tokens),
            max_reasoning_tokens=None if thought == math.inf else max(0, int(thought)),
        )

    def _affordable(self, each: float) -> float:
        """Output tokens (or device seconds) at that price that the free money pays for, beside the other of the two."""
        priced = (self.run.price.output > 0) + (self.run.price.device_second > 0)
        return self.free("money") / priced / each if self.run.max_money is not None and each else math.inf

    def _timed(self, limits: Limits, final: bool) -> Limits:
        paid = self._affordable(self.run.price.device_second)
        shared = self.run.on_exhausted != "error" and not final
        seconds = min(self.free("seconds"), paid / 2 if shared else paid)
        if seconds == math.inf:
            return limits
        return dataclasses.replace(limits, deadline=min(limits.deadline or math.inf, max(seconds, 1e-3)))


def _words(names: list[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]
