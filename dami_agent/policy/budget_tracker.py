"""Keep what lasts between the steps of a policy: accounts, histories, and which warnings were given.

A policy is a frozen value. Whoever runs steps under it (a chat model, a pipeline, a middleware) owns a tracker.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dami_agent.policy.accounts import Spent
from dami_agent.policy.budget_allowance import Allowance
from dami_agent.policy.budgets import Budgets
from dami_agent.policy.history import Histories, History
from dami_agent.policy.match import Facts
from dami_agent.policy.rules import Rule, RunBudget
from dami_agent.policy.spelling import Spelling
from dami_agent.types import CallRecord, Limits, RunContext, Step, Usage

MOST_POLICIES = 4096
"""Policies that a tracker keeps; beyond that it forgets the one that was unused longest, and its accounts."""


class BudgetedPolicy(Protocol):
    """Gives what is read of a :class:`~dami_agent.policy.policy.ReasoningPolicy`, which imports this module."""

    @property
    def fingerprint(self) -> str:
        """Return the key of the policy's accounts."""

    @property
    def budgeted(self) -> bool:
        """Return whether any budget is set."""

    @property
    def run_budget(self) -> RunBudget:
        """Return what the steps of one run or thread may use together."""

    @property
    def tool_budgets(self) -> Mapping[str, int]:
        """Return the reasoning tokens that one run may spend, by tool."""

    @property
    def all_rules(self) -> Sequence[Rule]:
        """Return all rules, the short forms included."""

    def account(self, run_context: RunContext) -> str:
        """Return the account that a step is charged to."""


@dataclass(slots=True)
class _PolicyState:
    budgets: Budgets
    spelling: Spelling
    warned_of_greedy: bool = False
    histories: Histories = field(default_factory=Histories)


class BudgetTracker:
    """Keeps the accounts of runs and threads, by the policy's fingerprint; safe to use from many threads.

    A chat model makes a tracker of its own and shares it with all copies of itself: ``bind``, ``configurable_fields``,
    ``copy.copy`` and ``copy.deepcopy``. Two models spend from the same accounts if both are given one tracker, and
    policies that are equal but for their frontier::

        budgets = BudgetTracker()
        writer, critic = ChatDAMI(policy="frugal", budgets=budgets), ChatDAMI(policy="frugal", budgets=budgets)

    A pickled tracker begins anew: accounts belong to one process.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._states: OrderedDict[str, _PolicyState] = OrderedDict()
        _trackers.add(self)

    def __deepcopy__(self, memo: object) -> BudgetTracker:
        """Share the accounts: whoever copies a chat model goes on spending the same budgets."""
        return self

    def __reduce__(self) -> tuple[type[BudgetTracker], tuple[()]]:
        """Pickle nothing; another process begins with unspent budgets."""
        return type(self), ()

    def __copy__(self) -> BudgetTracker:
        """Share the accounts, as a deep copy does."""
        return self

    def reserve(
        self,
        policy: BudgetedPolicy,
        step: Step,
        attempt: int,
        limits: Limits,
        charged_to: str,
        *,
        final: bool = False,
        need: int = 0,
        check: Callable[[], None] = lambda: None,
    ) -> Allowance:
        """Set aside what an attempt may use at most; :meth:`settle` must follow, whatever becomes of it.

        Args:
            policy: whose budgets are meant.
            step: the call; its run context names run and thread.
            attempt: number of the attempt.
            limits: those that it would have without a budget.
            charged_to: the tool that pays, or ``answer``.
            final: answer now, whatever is left.
            need: tokens that the thought needs; 0 if unknown.
            check: called while the step waits for what others have set aside; what it raises ends the wait.

        Raises:
            BudgetExhausted: less is left than an answer needs.
        """
        budgets, account = self._state(policy).budgets, policy.account(step.run_context)
        return budgets.reserve(account, _key(step, attempt), limits, charged_to, final=final, need=need, check=check)

    def settle(self, policy: BudgetedPolicy, step: Step, attempt: int, usage: Usage | None) -> None:
        """Charge what an attempt used and free the rest; None charges all that was set aside.

        Args:
            policy: under which the attempt was made.
            step: the call.
            attempt: number of the attempt.
            usage: None if nobody knows what it used.
        """
        if policy.budgeted:
            self._state(policy).budgets.settle(policy.account(step.run_context), _key(step, attempt), usage)

    def release(self, policy: BudgetedPolicy, step: Step, attempt: int) -> None:
        """Free what was set aside for an attempt that is not made; it counts as no step.

        Args:
            policy: under which it was set aside.
            step: the call.
            attempt: number of the attempt.
        """
        if policy.budgeted:
            self._state(policy).budgets.release(policy.account(step.run_context), _key(step, attempt))

    def charge(self, policy: BudgetedPolicy, run_context: RunContext, usage: Usage, charged_to: str) -> None:
        """Put on the account of a run or thread what was used before, without a reservation.

        Args:
            policy: whose budgets are meant.
            run_context: names run and thread.
            usage: what was used.
            charged_to: the tool that pays, or ``answer``.
        """
        self._state(policy).budgets.charge(policy.account(run_context), usage, charged_to)

    def spent(self, policy: BudgetedPolicy, run_context: RunContext) -> Spent:
        """Return what a run or thread has used so far; counted only where the policy sets a budget."""
        return self._state(policy).budgets.spent(policy.account(run_context))

    def stopped_by_budget(self, policy: BudgetedPolicy, step: Step, attempt: int) -> bool:
        """Tell whether an attempt that timed out was stopped by the budget, which has kept time for an answer."""
        return self._state(policy).budgets.timed(policy.account(step.run_context), _key(step, attempt))

    def history(self, policy: BudgetedPolicy, step: Step) -> History | None:
        """Return how the steps of the run or thread that ``step`` goes on from were read; None where there are none."""
        histories, account = self._state(policy).histories, policy.account(step.run_context)
        with self._lock:
            return histories.before(account, step)

    def note_history(self, policy: BudgetedPolicy, step: Step, record: CallRecord) -> None:
        """Remember at which λ an attempt's prompt was read, if it was read to its end, and at its reply's own."""
        generation = record.generation
        if generation is None or record.error is not None or generation.prefix_intensity is not None:
            return
        histories, account = self._state(policy).histories, policy.account(step.run_context)
        # Where the answer has a λ of its own, the thought's reading was given up.
        intensity = generation.intensity if generation.answer_intensity is None else generation.answer_intensity
        with self._lock:
            histories.note(account, step, intensity, generation.prompt_tokens)

    def check_names(self, policy: BudgetedPolicy, facts: Facts) -> None:
        """Warn of names of tools and nodes that the policy misspells, once each."""
        self._state(policy).spelling.check(facts)

    def first_greedy_thought(self, policy: BudgetedPolicy) -> bool:
        """Tell whether no step of the policy has yet thought under greedy decoding; from now on one has."""
        state = self._state(policy)
        first, state.warned_of_greedy = not state.warned_of_greedy, True
        return first

    def _state(self, policy: BudgetedPolicy) -> _PolicyState:
        key = policy.fingerprint
        with self._lock:
            if key not in self._states:
                budgets = Budgets(policy.run_budget, policy.tool_budgets, clock=self._now)
                self._states[key] = _PolicyState(budgets, Spelling(policy.all_rules))
            self._states.move_to_end(key)
            while len(self._states) > MOST_POLICIES:
                self._states.popitem(last=False)
            return self._states[key]

    def _now(self) -> float:
        return self._clock()


_trackers: weakref.WeakSet[BudgetTracker] = weakref.WeakSet()


def _after_fork() -> None:
    """Replace locks in a forked child: another thread of its parent may have held them."""
    for tracker in list(_trackers):
        tracker._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _key(step: Step, attempt: int) -> tuple[str | int, int]:
    return (step.run_context.call_id or id(step), attempt)
