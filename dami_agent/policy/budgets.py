"""Budgets of whole runs: one account per agent run or thread, kept in memory, safe to use from many threads.

A step **reserves** before its first token and **settles** after its last. What is reserved counts as spent until then,
so branches that run at the same time never overspend a token budget together, whatever they do.

- Tokens are output tokens, thrown-away probes included. Reasoning tokens are those of the thought without its markers,
  which is what ``max_reasoning_tokens`` of a step caps.
- Under ``taper`` and ``end`` a step may take at most half of what is free, so that steps beside and after it find some;
  ``answer_reserve`` tokens stay out of reach until nothing else is left. The step that finds the budget drained gets
  them: λ=0, tools disabled.
- No reply is cut to a few tokens: each gets at least ``answer_reserve``, all of them the answer's (or the caller's own
  cap, or half of a budget that is smaller than two answers). A thought gets at least as many besides, or there is none
  (λ=0); the same holds for what is left of a budget of thoughts. A step for which less is left fails.
- Under ``error`` a step may take all that is free, and one that finds nothing fails.
- Seconds count while at least one call of the account is running; they bound a step's deadline.
- Money is what the ledger's rows of the run add up to at the same price. A step sets aside what its tokens and its
  seconds may cost at most (half of its share for each, where both have a price), so it bounds tokens and deadline.
- The last tenth of seconds and money is the final answer's. A prompt's price is only known once it was paid, so money
  may be overshot by one prompt, and seconds and money by one decode step.
- Under ``taper`` λ's ceiling falls from 1, once less than half of any budget is free, to 0, when it is drained.
- A tool's ``run_max_reasoning_tokens`` is hard too; used up, the tool's steps are answered at λ=0.
- A call that comes to its deadline before the final answer's tenth ends; where nothing of its answer was shown yet, the
  pipeline gives the rest to a final one.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

from dami_agent.policy.accounts import Account, Reservation, Spent
from dami_agent.policy.grant import Grant, Room
from dami_agent.policy.rules import RunBudget
from dami_agent.types import Limits, Usage

MOST_ACCOUNTS = 10_000
"""Accounts kept; beyond that the one that was idle longest is forgotten."""


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
        self._accounts: OrderedDict[str, Account] = OrderedDict()

    @property
    def limited(self) -> bool:
        """Whether there is any budget at all."""
        run = self.run
        ends = (run.max_tokens, run.max_reasoning_tokens, run.max_seconds, run.max_money)
        return bool(self.tools) or any(end is not None for end in ends)

    @property
    def timing(self) -> bool:
        """Whether a budget sets deadlines."""
        run = self.run
        return run.max_seconds is not None or (run.max_money is not None and run.price.device_second > 0)

    def spent(self, account: str) -> Spent:
        """What the account has used; open calls count with their seconds so far."""
        with self._lock:
            held = self._accounts.get(account)
            return held.now(self._clock()) if held is not None else Spent()

    def reserve(self, account: str, key: Hashable, limits: Limits, charged_to: str, *, final: bool = False) -> Grant:
        """Set aside what a step may use at most; ``limits`` are those it would have without a budget.

        Args:
            account: run or thread.
            key: of this attempt, for :meth:`settle`.
            limits: of the step.
            charged_to: tool or ``answer``.
            final: answer now, whatever is left.

        Raises:
            BudgetExhausted: less is left than an answer needs.
        """
        with self._lock:
            held = self._accounts.setdefault(account, Account())
            self._accounts.move_to_end(account)
            room = Room(self.run, self.tools, held, held.now(self._clock()), final)
            grant = room.grant(limits, charged_to)
            if not held.open:
                held.since = self._clock()
            most = Usage(tokens=grant.limits.max_tokens or 0, device_seconds=grant.limits.deadline or 0.0)
            held.open[key] = Reservation(
                tokens=most.tokens,
                reasoning_tokens=grant.limits.max_reasoning_tokens or 0,
                seconds=most.device_seconds,
                money=self.run.price.of(most),
                charged_to=charged_to,
                timed=grant.timed,
            )
            self._forget()
            return grant

    def timed(self, account: str, key: Hashable) -> bool:
        """Whether the deadline of an attempt that runs is the budget's, with time kept behind it for an answer."""
        with self._lock:
            held = self._accounts.get(account)
            return held is not None and key in held.open and held.open[key].timed

    def settle(self, account: str, key: Hashable, usage: Usage | None) -> None:
        """Charge what an attempt used and free the rest; None: nobody knows, so all that was set aside is charged.

        Does nothing for an attempt that has no reservation (any more).
        """
        with self._lock:
            held = self._accounts.get(account)
            reservation = held.open.get(key) if held is not None else None
            if held is None or reservation is None:
                return
            now = held.now(self._clock())
            del held.open[key]
            if not held.open:
                held.spent = dataclasses.replace(held.spent, seconds=now.seconds)
            used = reservation.whole if usage is None else usage
            held.spent = held.spent.plus(used, self.run.price, reservation.charged_to)

    def charge(self, account: str, usage: Usage, charged_to: str) -> None:
        """Put on an account what was used before, without a reservation."""
        with self._lock:
            held = self._accounts.setdefault(account, Account())
            self._accounts.move_to_end(account)
            held.spent = held.spent.plus(usage, self.run.price, charged_to)
            self._forget()

    def _forget(self) -> None:
        if len(self._accounts) > MOST_ACCOUNTS:
            idle = next((name for name, account in self._accounts.items() if not account.open), None)
            if idle is not None:
                del self._accounts[idle]
