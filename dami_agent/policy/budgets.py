"""Keep budgets of whole runs: one account per agent run or thread, in this process, safe for many threads.

A step **reserves** before its first token and **settles** after its last. What is reserved cannot be reserved again,
so branches that run at the same time never overspend a token budget together, whatever they do. A step reserves what it
can use at most: what the context window leaves, its caps, or the share of the budget described below.

Only what is **spent** makes λ sink or a step the last one. Where a step would get no thought, no tools or nothing at
all merely because others have set so much aside, it waits until one of them settles (:data:`PATIENCE`): so branches at
the same time get the λs that they would get one after another.

- Tokens are output tokens, discarded probes included. Reasoning tokens are those of the thought without its markers,
  which is what ``max_reasoning_tokens`` of a step caps.
- Under ``taper`` and ``end`` a step may take at most half of what is free, so that steps beside and after it find some;
  one whose thought is estimated to need more may take that, where it is free (and waits for it while others run that
  may give it back); what does not fit even so is not begun. ``answer_reserve`` tokens stay out of reach until nothing
  else is left. The step that finds the budget drained gets them: λ=0, tools disabled.
- No reply is cut to a few tokens: each gets at least ``answer_reserve``, all of them the answer's (or the caller's own
  cap, or half of a budget that is smaller than two answers). A thought gets at least as many besides, or there is none
  (λ=0); the same holds for what is left of a budget of thoughts. A step for which less is left fails.
- A tool's budget is given whole to a step with a cap of its own, by halves to others.
- Under ``error`` a step may take all that is free, and one that finds nothing fails.
- Seconds count while at least one call of the account is running; they bound a step's deadline.
- Money is what the ledger's rows of the run add up to at the same price. A step sets aside what its tokens and its
  seconds may cost at most (half of its share for each, where both have a price), so it bounds tokens and deadline.
- The last tenth of seconds and cost is the final answer's. A prompt's price is only known once it was paid, so cost
  may be overshot by one prompt, and seconds and cost by one decode step.
- Under ``taper`` λ's ceiling falls from 1, once less than half of any budget is left, to 0, when it is drained.
- A tool's ``run_max_reasoning_tokens`` is hard too; used up, the tool's steps are answered at λ=0.
- A call that comes to its deadline before the final answer's tenth ends; where nothing of its answer was shown yet, the
  pipeline gives the rest to a final one.
"""

from __future__ import annotations

import dataclasses
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Mapping

from dami_agent.errors import BudgetExhausted
from dami_agent.policy.accounts import Account, Accounts, Reservation, Spent
from dami_agent.policy.budget_allowance import Allowance, RemainingBudget
from dami_agent.policy.rules import RunBudget
from dami_agent.types import Limits, Usage

PATIENCE = 60.0
"""Seconds that a step waits at most for what others have set aside, or until half of its own deadline."""

_LOOK = 0.05  # seconds between two looks at whether the waiting call was cancelled


class Budgets:
    """Keeps the accounts of one policy.

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
        self._lock = threading.Condition()  # notified when an attempt settles
        self._accounts = Accounts()
        _all.add(self)

    @property
    def limited(self) -> bool:
        """Tell whether there is any budget at all."""
        return self.run.limited or bool(self.tools)

    @property
    def accounts_in_memory(self) -> int:
        """Count the accounts kept in memory; the others are on disk."""
        with self._lock:
            return len(self._accounts.in_memory)

    def spent(self, account: str) -> Spent:
        """Return what the account has used; open calls count with their seconds so far."""
        with self._lock:
            held = self._accounts.find(account)
            return held.now(self._clock()) if held is not None else Spent()

    def reserve(
        self,
        account: str,
        key: Hashable,
        limits: Limits,
        charged_to: str,
        *,
        final: bool = False,
        need: int = 0,
        most: int | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Allowance:
        """Set aside what a step may use at most, in place of what the attempt has set aside before.

        Args:
            account: run or thread.
            key: of this attempt, for :meth:`settle`.
            limits: those that it would have without a budget.
            charged_to: tool or ``answer``.
            final: answer now, whatever is left.
            need: tokens that its thought needs, which it waits for while others run; 0 if unknown.
            most: output tokens that the context window leaves.
            check: called while it waits for others; what it raises ends the wait, and what was set aside stays so.

        Raises:
            BudgetExhausted: less is left than an answer needs; what was set aside before stays so.
        """
        with self._lock:
            limits = self._wait(account, key, limits, charged_to, final, need, check)
            held = self._accounts.open(account)
            spent = held.now(self._clock())
            allowance = self._remaining(held, spent, key, final).allow(limits, charged_to, need)
            widest = self._remaining(held, spent, key, final, alone=True).allow(limits, charged_to, math.inf).limits
            if not held.open:
                held.since = self._clock()
            tokens = min((count for count in (allowance.limits.max_tokens, most) if count is not None), default=0)
            thought = allowance.limits.max_reasoning_tokens or 0
            use = Usage(tokens=tokens, device_seconds=allowance.limits.timeout or 0.0)
            held.open[key] = Reservation(
                tokens=tokens,
                reasoning_tokens=min(thought, tokens) if tokens else thought,
                seconds=use.device_seconds,
                cost=self.run.price.cost_of(use),
                charged_to=charged_to,
                timed=allowance.timed,
            )
            return dataclasses.replace(allowance, widest=widest)

    def _remaining(
        self, held: Account, spent: Spent, key: Hashable, final: bool, *, alone: bool = False
    ) -> RemainingBudget:
        """Return what is left beside what others have set aside, or with ``alone`` if nobody had."""
        others = () if alone else tuple(other for name, other in held.open.items() if name != key)
        return RemainingBudget(self.run, self.tools, spent, others, final)

    def _wait(
        self,
        account: str,
        key: Hashable,
        limits: Limits,
        charged_to: str,
        final: bool,
        need: int,
        check: Callable[[], None],
    ) -> Limits:
        """Wait while only what others have set aside stands in the way; return the limits, less the time waited.

        Whoever began in this very thread (a stream that is read half-way) cannot go on before this step does; nor can
        those who wait to widen what they have set aside, or two would wait for each other.
        """
        begun = time.monotonic()
        patience = PATIENCE if limits.timeout is None else min(PATIENCE, limits.timeout / 2)
        me = threading.get_ident()
        while (waited := time.monotonic() - begun) < patience:
            held = self._accounts.open(account)
            others = [other for name, other in held.open.items() if name != key]
            if all(other.thread == me or other.waiting for other in others):
                break
            spent = held.now(self._clock())
            alone = _withheld(self._remaining(held, spent, key, final, alone=True), limits, charged_to, need)
            if _withheld(self._remaining(held, spent, key, final), limits, charged_to, need) <= alone:
                break
            self._set_waiting(held, key, True)
            self._lock.wait(min(_LOOK, patience - waited))
            self._set_waiting(held, key, False)
            check()
        if waited < _LOOK or limits.timeout is None:
            return limits
        return dataclasses.replace(limits, timeout=limits.timeout - waited)

    @staticmethod
    def _set_waiting(held: Account, key: Hashable, waiting: bool) -> None:
        if key in held.open:
            held.open[key] = dataclasses.replace(held.open[key], waiting=waiting)

    def timed(self, account: str, key: Hashable) -> bool:
        """Tell whether the deadline of an attempt that runs is the budget's, with time kept behind it for an answer."""
        with self._lock:
            held = self._accounts.find(account)
            return held is not None and key in held.open and held.open[key].timed

    def settle(self, account: str, key: Hashable, usage: Usage | None) -> None:
        """Charge what an attempt used and free the rest; None: nobody knows, so all that was set aside is charged.

        Does nothing for an attempt that has no reservation (any more).
        """
        with self._lock:
            held = self._accounts.find(account)
            if held is None or (reservation := self._freed(held, key)) is None:
                return
            used = reservation.whole if usage is None else usage
            held.spent = held.spent.plus(used, self.run.price, reservation.charged_to)

    def release(self, account: str, key: Hashable) -> None:
        """Free what was set aside for an attempt that is not made."""
        with self._lock:
            held = self._accounts.find(account)
            if held is not None:
                self._freed(held, key)

    def _freed(self, held: Account, key: Hashable) -> Reservation | None:
        """Free what an attempt has set aside, tell those who wait for it, and return it; None if it has nothing."""
        if key not in held.open:
            return None
        now, reservation = held.now(self._clock()), held.open.pop(key)
        if not held.open:
            held.spent = dataclasses.replace(held.spent, seconds=now.seconds)
        self._lock.notify_all()  # they go on once the lock is free
        return reservation

    def charge(self, account: str, usage: Usage, charged_to: str) -> None:
        """Put on an account what was used before, without a reservation."""
        with self._lock:
            held = self._accounts.open(account)
            held.spent = held.spent.plus(usage, self.run.price, charged_to)


_all: weakref.WeakSet[Budgets] = weakref.WeakSet()


def _after_fork() -> None:
    """Reset a forked child: its parent's calls never settle here, and another thread may have held the lock."""
    for budgets in list(_all):
        budgets._lock = threading.Condition()
        budgets._accounts.close_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _withheld(remaining: RemainingBudget, limits: Limits, charged_to: str, need: int) -> int:
    try:
        return remaining.allow(limits, charged_to, need).withheld(need)
    except BudgetExhausted:
        return 3
