"""Compute what a step may use of what is free, so that those after it still find enough; rules: :mod:`budgets`.

How deeply a step may think, and whether it is the last one, follows from what has been **spent**. How much it may use
at most follows from what is **free**: neither spent nor set aside for calls that are running.

Two budgets are counted in output tokens: that of tokens, and that of cost where output has a price. Of each, the
*reserve* is kept for the final answer: ``answer_reserve`` tokens, at most half of the budget; where the policy does not
say, 64, at most an eighth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from dami_agent.errors import BudgetExhausted
from dami_agent.policy.accounts import Reservation, Spent
from dami_agent.policy.caps import DEFAULT_ANSWER_RESERVE, thought_room, with_answer_reserve
from dami_agent.policy.rules import RunBudget
from dami_agent.types import Limits
from dami_agent.types.price import PER

_LAST_TENTH = 0.1
_ANSWER = 64
_WORDS = {"tokens": "tokens", "reasoning_tokens": "reasoning tokens", "seconds": "seconds", "cost": "cost budget"}
_ENOUGH_SECONDS = 20.0  # of a timeout; with less, a call waits for what others have set aside


def _reserve(run: RunBudget, whole: float) -> int:
    """Compute the tokens of a budget that are kept for the final answer."""
    if run.answer_reserve is None:
        return max(1, min(_ANSWER, int(whole // 8)))
    return max(1, min(run.answer_reserve, int(whole // 2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Says what a step may use: tightened limits, λ's ceiling, whether it must answer without tools, and why.

    Attributes:
        answer_reserve: tokens of the limits that a thought may not use up, at least.
        timed: the timeout is the budget's, and time is kept after it for a final answer.
        widest: limits of a thought that needs more than the step gets unasked, once nobody else sets anything aside.
    """

    limits: Limits
    ceiling: float = 1.0
    tools_disabled: bool = False
    reason: str = ""
    answer_reserve: int = 0
    timed: bool = False
    widest: Limits | None = None

    @property
    def reserved(self) -> Limits:
        """Return the limits with an answer's room kept out of the thought's."""
        return with_answer_reserve(self.limits, self.answer_reserve)

    @property
    def widest_reserved(self) -> Limits:
        """Return the widest limits with an answer's room kept out of the thought's."""
        return with_answer_reserve(self.widest or self.limits, self.answer_reserve)

    def withheld(self, need: int = 0) -> int:
        """Grade how much of a normal reply is withheld: 0 nothing, 1 the thought or time for it, 2 the tools too.

        Args:
            need: tokens that the thought needs; 0 if unknown.
        """
        short = self.timed and self.limits.timeout is not None and self.limits.timeout < _ENOUGH_SECONDS
        none = self.ceiling == 0 or self.limits.max_reasoning_tokens == 0
        return 2 if self.tools_disabled else int(short or none or thought_room(self.reserved) < need)


@dataclass(frozen=True, slots=True)
class _TokenBudget:
    """Counts a budget in output tokens: what is free of it, and what of it is kept for the final answer."""

    name: str
    free: int
    reserve: int

    def need(self, own: float) -> float:
        """Return the least that a reply gets: an answer's room, or the caller's own cap where that is smaller."""
        return min(self.reserve, own)

    def final(self, own: float) -> bool:
        """Tell whether there is no room for a reply and another answer after it."""
        return self.free < self.need(own) + self.reserve

    def part(self, own: float, final: bool, thought: float) -> float:
        """Compute the cap of a reply.

        A final one gets twice the reserve. Others get half of what is not reserved, at least room for a thought and an
        answer while that leaves the final answer its own, else at least an answer's; all that is not reserved where the
        thought needs it.
        """
        if final:
            return min(self.free, 2 * self.reserve)
        least = 2 * self.reserve if self.free >= 3 * self.reserve else self.need(own)
        left = self.free - self.reserve
        beside = max(self.reserve, min(thought, DEFAULT_ANSWER_RESERVE))  # what `with_answer_reserve` keeps
        return max(least, math.ceil(left / 2), min(left, thought + beside))


@dataclass(frozen=True, slots=True)
class RemainingBudget:
    """Holds the free part of every budget at one moment, and computes what a step gets of it.

    Attributes:
        run, tools: the budgets.
        spent: what the account has used.
        others: what is set aside for calls that are running.
        final: asked to answer now, whatever is left.
    """

    run: RunBudget
    tools: Mapping[str, int]
    spent: Spent
    others: tuple[Reservation, ...] = ()
    final: bool = False

    def allow(self, limits: Limits, charged_to: str, need: float = 0) -> Allowance:
        """Compute what a step gets.

        Args:
            limits: what it would have without a budget.
            charged_to: tool or ``answer``.
            need: tokens that its thought needs: these it gets where they are free; 0 if unknown.

        Raises:
            BudgetExhausted: less than an answer needs.
        """
        own = math.inf if limits.max_tokens is None else limits.max_tokens
        self._refuse(own)
        shares = self._shares()
        drained = self._drained(own, limits, shares)
        final = self.final or (bool(drained) and (self.run.on_exhausted == "end" or drained != ["reasoning_tokens"]))
        tokens, reserve = self._tokens(own, final, need)
        thought, closed = self._thought(limits, charged_to, need)
        ceiling, reasons = self._ceiling(shares, drained)
        if reserve and tokens < 2 * reserve and not final:
            closed.append(f"too little of this {self.run.per}'s budget left for a thought")
        if self.final and not drained:
            closed.append(f"time of this {self.run.per} used up")
        if closed or drained:
            thought, ceiling = 0, 0.0
        timeout = self._timeout(limits, final)
        granted = dataclasses.replace(
            limits,
            max_tokens=None if tokens == math.inf else int(tokens),
            max_tokens_by="budget" if tokens < own else limits.max_tokens_by,
            max_reasoning_tokens=None if thought == math.inf else int(thought),
            timeout=timeout,
        )
        return Allowance(
            limits=granted,
            ceiling=ceiling,
            tools_disabled=final,
            reason="; ".join(reasons + closed),
            answer_reserve=reserve,
            timed=self._shared and not final and timeout != limits.timeout,
        )

    # ---- what is free ---------------------------------------------------------------------------------------------

    @property
    def _shared(self) -> bool:
        """Tell whether steps leave something for others; under ``error`` each may take all."""
        return self.run.on_exhausted != "error"

    def _left(self, name: str) -> float:
        """Return what is not spent; infinite without a limit."""
        limit = getattr(self.run, f"max_{name}")
        return math.inf if limit is None else limit - getattr(self.spent, name)

    def _free(self, name: str) -> float:
        """Return what is neither spent nor set aside; seconds pass for all at once, so nobody sets them aside."""
        reserved = 0.0 if name == "seconds" else sum(getattr(other, name) for other in self.others)
        return self._left(name) - reserved

    def _token_budgets(self) -> list[_TokenBudget]:
        budgets, run = [], self.run
        affordable = self._affordable(self._free("cost"), run.price.output / PER)
        for name, free, whole in (
            ("tokens", self._free("tokens"), run.max_tokens),
            ("cost", affordable, self._affordable(run.max_cost or 0.0, run.price.output / PER)),
        ):
            if free != math.inf and whole is not None:
                budgets.append(_TokenBudget(name, math.floor(free), _reserve(run, whole)))
        return budgets

    def _affordable(self, cost: float, each: float) -> float:
        """Convert a cost to the output tokens (or device seconds) it pays for, beside the other of the two."""
        priced = (self.run.price.output > 0) + (self.run.price.device_second > 0)
        return cost / priced / each if self.run.max_cost is not None and each else math.inf

    def _shares(self) -> dict[str, float]:
        """Compute each limited budget's share left for steps before the final answer, from 1 down to 0 or below."""
        shares = {}
        for name in ("tokens", "reasoning_tokens", "seconds", "cost"):
            limit = getattr(self.run, f"max_{name}")
            if limit is None:
                continue
            kept = 0.0
            if self._shared and name == "tokens":
                kept = 2 * _reserve(self.run, limit) - 1
            elif self._shared and name != "reasoning_tokens":
                kept = _LAST_TENTH * limit
            shares[name] = (self._left(name) - kept) / (limit - kept) if limit > kept else 0.0
        return shares

    # ---- whether it is enough -------------------------------------------------------------------------------------

    def _refuse(self, own: float) -> None:
        """Raise where not even an answer has room: no reply is cut to a few tokens.

        Under ``error`` a step may use the last token, and thoughts are part of what may run out.
        """
        names = ("tokens", "seconds", "cost") if self._shared else ("tokens", "reasoning_tokens", "seconds", "cost")
        empty = {name: f"no {_WORDS[name]} left" for name in names if self._free(name) <= 0}
        for budget in self._token_budgets() if self._shared else []:
            if budget.free < budget.need(own):
                many = f"{budget.free} tokens" if budget.name == "tokens" else "too little of the cost budget"
                empty.setdefault(budget.name, f"{many} left, {budget.need(own):g} tokens are reserved for the answer")
        if not empty:
            return
        beside = ", the rest is set aside for calls that are running" if self.others else ""
        instead = "" if self._shared else ", or say on_exhausted: end"
        raise BudgetExhausted(
            f"the {self.run.per}'s budget is used up: {' and '.join(empty.values())}{beside}",
            hint=f"raise run.max_{next(iter(empty))} of the policy{instead}",
        )

    def _drained(self, own: float, limits: Limits, shares: Mapping[str, float]) -> list[str]:
        """List the budgets of which only the final answer's part is left."""
        if not self._shared:
            return []
        names = {name for name, share in shares.items() if share <= 0 and name not in ("tokens", "reasoning_tokens")}
        names |= {budget.name for budget in self._token_budgets() if budget.final(own)}
        if self._free("reasoning_tokens") < self._least(limits, self.run.max_reasoning_tokens):
            names.add("reasoning_tokens")
        return sorted(names)

    def _least(self, limits: Limits, whole: int | None) -> float:
        """Return the tokens that a thought gets at least, or none is begun: one cut short costs and does not help."""
        own = math.inf if limits.max_reasoning_tokens is None else limits.max_reasoning_tokens
        return max(1, min(self.run.answer_reserve or _ANSWER, own, math.inf if whole is None else whole // 2))

    def _ceiling(self, shares: Mapping[str, float], drained: list[str]) -> tuple[float, list[str]]:
        if drained:
            names = " and ".join(_WORDS[name] for name in drained)
            return 0.0, [f"{names} of this {self.run.per} used up"]
        least = min(shares.values(), default=1.0)
        if self.run.on_exhausted != "taper" or least >= 0.5:
            return 1.0, []
        least = max(0.0, least)
        return 2 * least, [f"{least:.0%} of this {self.run.per}'s budget left"]

    # ---- how much -------------------------------------------------------------------------------------------------

    def _tokens(self, own: float, final: bool, need: float) -> tuple[float, int]:
        """Compute the reply's cap, and the answer's room in it; 0 where the caller's own cap is the tightest."""
        tokens, reserve = own, 0
        for budget in self._token_budgets():
            part = budget.part(own, final, need) if self._shared else budget.free
            if part < tokens:
                tokens, reserve = max(1, part), budget.reserve if self._shared else 0
        return tokens, reserve

    def _thought(self, limits: Limits, charged_to: str, need: float) -> tuple[float, list[str]]:
        """Compute the thought's cap, and say why there is to be none."""
        own = math.inf if limits.max_reasoning_tokens is None else limits.max_reasoning_tokens
        free, closed = self._free("reasoning_tokens"), list[str]()
        if self._shared and free != math.inf:
            free = max(self._least(limits, self.run.max_reasoning_tokens), math.ceil(free / 2), min(need, free))
        whole = self.tools.get(charged_to)
        if whole is not None:
            reserved = sum(o.reasoning_tokens for o in self.others if o.charged_to == charged_to)
            left: float = whole - self.spent.by_tool.get(charged_to, 0) - reserved
            least = self._least(limits, whole)
            if left < least:
                closed.append(f"{charged_to} has used up its reasoning tokens for this {self.run.per}")
            if self._shared and own == math.inf:  # who names no cap leaves some for the calls beside it
                left = min(left, max(least, math.ceil(left / 2), need))
            free = min(free, left)
        return max(0, min(own, free)), closed

    def _timeout(self, limits: Limits, final: bool) -> float | None:
        """Keep the last tenth of the seconds for the final answer; of a budget of device seconds, others get half."""
        alone = final or not self._shared
        paid = self._affordable(self._free("cost"), self.run.price.device_second)
        seconds = self._free("seconds")
        if seconds != math.inf and not alone:
            seconds -= _LAST_TENTH * (self.run.max_seconds or 0.0)
        seconds = min(seconds, paid if alone else paid / 2)
        return limits.timeout if seconds == math.inf else min(limits.timeout or math.inf, max(seconds, 1e-3))
