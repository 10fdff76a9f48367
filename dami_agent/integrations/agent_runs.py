"""Which policy each run of an agent is under, and what its thread had used before; no LangChain in it."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dami_agent.errors import UsageError
from dami_agent.policy import BudgetTracker, ReasoningPolicy, RunBudget, Spent, ToolSettings, Usage
from dami_agent.types import RunContext

_MOST = 10_000  # runs and threads remembered, as many as a policy keeps accounts
_BEFORE = "before this run"
_COUNTED = ("tokens", "reasoning_tokens")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Output tokens, and those of them in thoughts."""

    model: int = 0
    reasoning: int = 0

    @classmethod
    def of(cls, spent: Spent) -> Tokens:
        """Return what an account has used."""
        return cls(spent.tokens, spent.reasoning_tokens)

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.model + other.model, self.reasoning + other.reasoning)

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(self.model - other.model, self.reasoning - other.reasoning)


@dataclass(frozen=True, slots=True)
class AgentRun:
    """One run: its policy and accounts, what its thread had used before it, and what the account held at first.

    Attributes:
        policy: settled at the run's first call.
        budgets: the accounts of the model that the run called first; all models of the run spend from them.
        run_context: where that call stands.
        thread_before: what the thread had used before the run.
        account_before: what the account held at that call.
    """

    policy: ReasoningPolicy
    budgets: BudgetTracker
    run_context: RunContext
    thread_before: Tokens
    account_before: Tokens

    @property
    def used(self) -> Tokens:
        """Return what this run has used so far: failed and rejected attempts and probes too."""
        return Tokens.of(self.budgets.spent(self.policy, self.run_context)) - self.account_before

    @property
    def failed(self) -> bool:
        """Return whether not one token is left of a budget whose end is an error."""
        budget = budget_of(self.policy)
        spent = self.budgets.spent(self.policy, self.run_context).tokens
        return budget.on_exhausted == "error" and budget.max_tokens is not None and spent >= budget.max_tokens

    @property
    def thread_used(self) -> Tokens:
        """Return what the run's thread has used, this run included."""
        return self.thread_before + self.used


@dataclass(slots=True, kw_only=True)
class AgentRuns:
    """The runs of one middleware; safe to use from many threads.

    Attributes:
        thread_limit, run_limit, thread_reasoning_limit, run_reasoning_limit: in tokens; None is no limit.
        tools: settings that replace a policy's, by tool.
        on_exhausted: replaces a policy's; None leaves it.
    """

    thread_limit: int | None = None
    run_limit: int | None = None
    thread_reasoning_limit: int | None = None
    run_reasoning_limit: int | None = None
    tools: Mapping[str, ToolSettings] = field(default_factory=dict)
    on_exhausted: str | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _runs: OrderedDict[str, AgentRun] = field(default_factory=OrderedDict)
    _threads: OrderedDict[str, Tokens] = field(default_factory=OrderedDict)

    def enter(
        self, base: ReasoningPolicy, budgets: BudgetTracker, run_context: RunContext, counted: Tokens
    ) -> AgentRun:
        """Find the run that a call belongs to; its policy and accounts are settled at its first call.

        Args:
            base: the policy that limits and tools come on top of.
            budgets: the accounts of the model that is called.
            run_context: where the call stands.
            counted: what the checkpoint says that the thread has used.

        Raises:
            UsageError: limits beside a policy whose budget is ``per: thread``.
        """
        key = run_context.root_run_id or run_context.thread_id or ""
        with self._lock:
            run = self._runs.get(key)
            if run is None:
                run = self._begin(self._fold(base), budgets, run_context, self.thread_used(run_context, counted))
                _keep(self._runs, key, run)
            return run

    def thread_used(self, run_context: RunContext, counted: Tokens) -> Tokens:
        """Return what a thread has used, by its checkpoint or (failed runs leave none) as this process remembers."""
        with self._lock:
            kept = self._threads.get(run_context.thread_id, Tokens()) if run_context.thread_id else Tokens()
        return Tokens(max(kept.model, counted.model), max(kept.reasoning, counted.reasoning))

    def leave(self, run: AgentRun) -> None:
        """Remember after a call, whatever became of it, what its thread has used."""
        if run.run_context.thread_id:
            with self._lock:
                _keep(self._threads, run.run_context.thread_id, run.thread_used)

    def _begin(
        self, policy: ReasoningPolicy, budgets: BudgetTracker, run_context: RunContext, thread: Tokens
    ) -> AgentRun:
        """Begin a run's account with what its thread has used, where the thread has less left than the run may use.

        So the policy keeps one account for both, and knows how much of the thread's budget is gone.
        """
        budget = budget_of(policy)
        shared = budget.per == "thread"
        limits: dict[str, int] = {}
        used: dict[str, int] = {}
        for name, limit, so_far in (
            ("tokens", self.thread_limit, thread.model),
            ("reasoning_tokens", self.thread_reasoning_limit, thread.reasoning),
        ):
            own = getattr(budget, f"max_{name}")
            if limit is not None and (own is None or own > limit - so_far):
                limits[f"max_{name}"], used[name] = limit, so_far
        if limits:
            policy = dataclasses.replace(policy, run=budget.model_copy(update=limits))
            if any(used.values()) and not budgets.spent(policy, run_context).steps:
                budgets.charge(policy, run_context, Usage(**used), _BEFORE)
        before = (
            Tokens.of(budgets.spent(policy, run_context)) if shared else Tokens(*(used.get(n, 0) for n in _COUNTED))
        )
        return AgentRun(policy, budgets, run_context, thread, before)

    def _fold(self, base: ReasoningPolicy) -> ReasoningPolicy:
        """Put on top of ``base`` what was given here."""
        given = {"max_tokens": self.run_limit, "max_reasoning_tokens": self.run_reasoning_limit}
        limits = {name: limit for name, limit in given.items() if limit is not None}
        budget = budget_of(base)
        per_thread = self.thread_limit is not None or self.thread_reasoning_limit is not None
        if budget.per == "thread" and (limits or per_thread):
            raise UsageError(
                "the policy's run budget is per: thread, and limits are given beside it",
                hint="set them in one place: in the policy's run:, or as limits beside a policy with per: run",
            )
        budget = tightened(budget, limits)
        if self.on_exhausted is not None:
            budget = budget.model_copy(update={"on_exhausted": self.on_exhausted})
        if budget == base.run and not self.tools:
            return base
        return dataclasses.replace(base, run=budget, tools={**base.tools, **self.tools})


def budget_of(policy: ReasoningPolicy) -> RunBudget:
    """Return the run budget, as the model that the policy made of what it was given."""
    assert isinstance(policy.run, RunBudget)
    return policy.run


def tightened(budget: RunBudget, limits: Mapping[str, int]) -> RunBudget:
    """Return the smaller of the budget's own limits and the given ones."""
    own = {name: getattr(budget, name) for name in limits}
    return budget.model_copy(update={n: v if own[n] is None else min(v, own[n]) for n, v in limits.items()})


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _MOST:
        kept.popitem(last=False)
