"""Decide a step: what was asked, which rule won, what budgets left, what the estimator says; the reason in words."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from typing_extensions import Self

from dami_agent.errors import BudgetExhausted
from dami_agent.policy import caps, escalation, policy_file
from dami_agent.policy.accounts import RUN, THREAD
from dami_agent.policy.budget_allowance import Allowance
from dami_agent.policy.budget_tracker import BudgetTracker
from dami_agent.policy.cautions import warn_of_greedy_thinking
from dami_agent.policy.declared import canonical, qualified_name
from dami_agent.policy.escalation import Verifier
from dami_agent.policy.frontier import Frontier
from dami_agent.policy.intensity_query import IntensityQuery
from dami_agent.policy.match import Facts, all_rules, match
from dami_agent.policy.plans import Cascade, SelfConsistency, refuse_lesser
from dami_agent.policy.presets import read_preset
from dami_agent.policy.resolve import EstimateFn, resolve
from dami_agent.policy.rules import (
    Escalation,
    PolicyFile,
    PolicyText,
    Rule,
    RunBudget,
    Settings,
    ToolSettings,
)
from dami_agent.types import Decision, Intensity, IntensityRequest, PrefixMode, Reply, RunContext, Step


@dataclass(frozen=True, kw_only=True, repr=False)
class ReasoningPolicy:
    """Chooses λ, template and limits for each step; a frozen value, whose budgets a :class:`BudgetTracker` keeps.

    Precedence. What the caller asks for (an :class:`~dami_agent.types.IntensityRequest`, in which init < configurable <
    bind < middleware < call is settled already) beats what the winning rule asks for, and that beats ``default``; a
    caller's ``"auto"`` leaves the choice to the rule. A number beats an effort name, an effort name beats ``"auto"``.
    Only estimates snap to the frontier's grid. Bounds come after all of that, for explicit numbers too; then a
    challenged answer's floor (never for a number or effort the caller gave); budget ceilings last. Caps only tighten.
    What a rule leaves out is taken from ``default``.

    Attributes:
        frontier: of the pair in use; an empty one is filled in by :class:`~dami_agent.chat_model.ChatDAMI`.
        default: settings of steps that no rule is about.
        name: kept in the ledger.
        rules, tools, nodes, run, escalation, accuracy_over_cost, challenge, prefix, reread_cost: see
            :mod:`dami_agent.policy.rules`; given as those models or as plain dicts.
        cascade, self_consistency: more than one reply to a step (:mod:`dami_agent.policy.plans`); None: one.
        verifier: judges replies, if ``escalation`` has attempts for it.

    Raises:
        InvalidPolicy: naming the field.
    """

    frontier: Frontier = field(default_factory=Frontier)
    default: Settings | IntensityRequest | Mapping[str, Any] = field(default_factory=Settings)
    name: str = "default"
    rules: Sequence[Rule | Mapping[str, Any]] = ()
    tools: Mapping[str, ToolSettings | Mapping[str, Any]] = field(default_factory=dict)
    nodes: Mapping[str, Settings | Mapping[str, Any]] = field(default_factory=dict)
    run: RunBudget | Mapping[str, Any] = field(default_factory=RunBudget)
    escalation: Escalation | Mapping[str, Any] = field(default_factory=Escalation)
    accuracy_over_cost: float = 0.5
    challenge: bool = False
    prefix: PrefixMode = "auto"
    reread_cost: float = 0.0
    cascade: Cascade | Mapping[str, Any] | None = None
    self_consistency: SelfConsistency | Mapping[str, Any] | None = None
    verifier: Verifier | None = None
    _spec: PolicyFile = field(init=False, compare=False)

    def __post_init__(self) -> None:
        default = _settings_of(self.default) if isinstance(self.default, IntensityRequest) else self.default
        given = {name: getattr(self, name) for name in PolicyFile.model_fields} | {"default": default}
        spec = policy_file.read_fields(given)
        vars(self).update({name: getattr(spec, name) for name in PolicyFile.model_fields}, _spec=spec)

    def __repr__(self) -> str:
        """Show all that changes a decision, the same in every process: it is part of cache keys."""
        verifier = f", verifier={self._verifier_name}" if self.verifier is not None else ""
        given = {n: getattr(self._spec, n) for n in PolicyFile.model_fields}
        blank = PolicyFile()
        said = "".join(f", {n}={v!r}" for n, v in given.items() if n != "name" and v != getattr(blank, n))
        return f"ReasoningPolicy(name={self.name!r}{said}{verifier}, frontier={self.frontier!r})"

    def __deepcopy__(self, memo: object) -> Self:
        """Return the policy itself: it never changes."""
        return self

    def __reduce__(self) -> tuple[Callable[..., ReasoningPolicy], tuple[Any, ...]]:
        """Pickle what the policy was made of."""
        given = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.init}
        return _remade, (type(self), given)

    # ---- reading ------------------------------------------------------------------------------------------------

    @classmethod
    def from_file(cls, path: str | Path, *, frontier: Frontier | None = None, verifier: Verifier | None = None) -> Self:
        """Read a YAML or TOML file with the keys ``default tools nodes rules run escalation`` and more.

        Args:
            path: the file.
            frontier: goes before the one that the file names.
            verifier: of answers.

        Raises:
            InvalidPolicy: naming file, line and field.
        """
        return cls._of(policy_file.read_file(path), Path(path), frontier, verifier)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, frontier: Frontier | None = None, verifier: Verifier | None = None
    ) -> Self:
        """Read what a file in the working folder would hold, as plain values.

        Raises:
            InvalidPolicy: naming the field.
        """
        return cls._of(policy_file.read_dict(data), Path("dict"), frontier, verifier)

    @classmethod
    def preset(cls, name: str, *, frontier: Frontier | None = None, verifier: Verifier | None = None) -> Self:
        """Read a preset: ``frugal``, ``balanced`` or ``thorough``.

        Raises:
            InvalidPolicy: there is none of that name.
        """
        return cls._of(read_preset(name), Path(name), frontier, verifier)

    @classmethod
    def _of(cls, spec: PolicyText, path: Path, frontier: Frontier | None, verifier: Verifier | None) -> Self:
        given: dict[str, Any] = {n: getattr(spec, n) for n in PolicyFile.model_fields if n in spec.model_fields_set}
        if frontier is None and spec.frontier is not None:
            frontier = Frontier.from_file(path.parent / os.path.expanduser(spec.frontier))
        return cls(**{"name": path.stem, **given}, frontier=frontier or Frontier(), verifier=verifier)

    def with_frontier(self, frontier: Frontier) -> Self:
        """Fill in the pair's frontier where the policy has none of its own; its fingerprint stays."""
        if self.frontier.rows or not (frontier.rows or frontier.switch_point):
            return self
        return dataclasses.replace(self, frontier=frontier)

    @cached_property
    def fingerprint(self) -> str:
        """Identify what the policy says, its frontier aside: equal for equal policies, in every process."""
        said = repr((canonical(self._spec), self._verifier_name)).encode("utf-8", "surrogatepass")
        return blake2b(said, digest_size=12).hexdigest()

    @property
    def _verifier_name(self) -> str:
        return "" if self.verifier is None else qualified_name(self.verifier)

    @property
    def estimators(self) -> frozenset[str]:
        """Name the estimators that rules ask for."""
        return frozenset(s.estimator for s in (self._spec.default, *self.all_rules) if s.estimator)

    @property
    def intensities(self) -> tuple[tuple[str, float], ...]:
        """List the λs that are written down in it (bounds aside), each with what sets it."""
        settings = [("policy default", self._spec.default), *((f"rule {rule.name}", rule) for rule in self.all_rules)]
        found = [(origin, value) for origin, each in settings for value in (each.number, each.answer_intensity)]
        return tuple((origin, value) for origin, value in found if value is not None)

    # ---- deciding -----------------------------------------------------------------------------------------------

    def decide(
        self,
        step: Step,
        attempt: int,
        estimate: EstimateFn,
        previous: Decision | None = None,
        why: str = "",
        *,
        budgets: BudgetTracker | None = None,
        final: bool = False,
        redraw: bool = False,
        elapsed: float = 0.0,
        context_left: int | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Decision:
        """Decide λ, template, limits and reason for one attempt at ``step``.

        Where budgets are set this reserves; ``budgets.settle`` must follow, whatever becomes of the attempt.

        Args:
            step: the call.
            attempt: 0, or how many attempts were rejected before.
            estimate: runs the estimator; called only if an estimate is needed.
            previous: the decision of the attempt before; its λ is raised.
            why: what was wrong with that attempt.
            budgets: keeps the accounts; None: nothing was spent before, and nothing is kept.
            final: the budget's time came to its end in that attempt: answer now, with what is kept for that.
            redraw: the step's plan asks for another reply at the λ of the attempt before.
            elapsed: seconds since the step's first attempt began; all attempts share the step's timeout.
            context_left: output tokens that the context window leaves, where that is known.
            check: called while the step waits for what others have set aside; raises if the call was cancelled.

        Raises:
            BudgetExhausted: less is left than an answer needs, or than another reply that a plan asks for.
        """
        spec, frontier, budgets, begun = self._spec, self.frontier, budgets or BudgetTracker(), time.monotonic()
        # 1. The rule that wins, and who pays.
        facts = Facts.of(step, attempt)
        budgets.check_names(self, facts)
        found = match(self.all_rules, facts, frontier)
        settings = caps.with_default(found.rule, spec.default)
        # 2. Caps, and what the budget of the run leaves of them.
        limits = caps.with_default_cap(caps.tighten(step.limits, settings), frontier, context_left)
        if limits.timeout is not None and attempt:
            limits = replace(limits, timeout=max(1e-3, limits.timeout - elapsed))
        allowance = Allowance(limits=limits)
        if self.budgeted:
            allowance = budgets.reserve(self, step, attempt, limits, found.charged_to, final=final, check=check)
        # 3. λ.
        prefix = frontier.prefix_for(spec.prefix if step.prefix in (None, "auto") else step.prefix)
        weighs = spec.reread_cost > 0 and prefix is None and attempt == 0
        query = IntensityQuery(
            frontier=frontier,
            spec=spec,
            rule=found.rule,
            step=step,
            challenge=facts.challenge,
            answer_intensity=settings.answer_intensity,
            previous=previous,
            why=why,
            redraw=redraw,
            final=final,
            history=budgets.history(self, step) if weighs else None,
        ).under(allowance)
        base = Decision(
            intensity=Intensity(0),
            template=frontier.template(Intensity(0)),
            reason="probe",
            sampling=step.sampling,
            limits=allowance.reserved,
            prefix_intensity=prefix,
            attempt=attempt,
            policy=self.name,
            rule=found.rule.name if found.rule else "",
            considered=found.considered,
            charged_to=found.charged_to,
            estimator=settings.estimator or "",
            tools_disabled=allowance.tools_disabled,
        )
        decision = resolve(query, base, estimate)
        # 4. A thought that needs more than a step gets unasked gets it where it is free; else λ is chosen for less.
        told = decision.estimate or (previous.estimate if previous is not None else None)
        need, probe = query.need(told, decision.intensity), decision.estimate.tokens if decision.estimate else 0
        widened = self.budgeted and told is not None and need > caps.thought_room(base.limits, probe)
        if told is not None and widened:
            waited = time.monotonic() - begun
            rest = limits if limits.timeout is None else replace(limits, timeout=max(1e-3, limits.timeout - waited))
            try:
                allowance = budgets.reserve(
                    self, step, attempt, rest, found.charged_to, final=final, need=need + probe, check=check
                )
            except BudgetExhausted:  # its time has ended; what it has set aside is still its own
                widened = False
            query = query.under(allowance)
            base = replace(base, limits=allowance.reserved, tools_disabled=allowance.tools_disabled)
            decision = resolve(replace(query, widest=allowance.reserved), base, lambda _: told)
        if previous is not None and previous.plan and not final:
            try:
                refuse_lesser(previous, decision, redraw)
            except BudgetExhausted:  # nothing is begun: what was set aside for it is others' again
                budgets.release(self, step, attempt)
                raise
        greedy = decision.intensity > 0 and decision.sampling.temperature == 0
        if greedy and budgets.first_greedy_thought(self):
            warn_of_greedy_thinking(decision.intensity)
        # 5. What a discarded probe has used comes off the caps.
        return caps.charge_probe(decision, timed=not widened) if self.budgeted else decision

    @cached_property
    def all_rules(self) -> tuple[Rule, ...]:
        """List the rules in the order in which they are looked at, short forms written out."""
        return all_rules(self._spec)

    def cache_key(self, run_context: RunContext) -> str | None:
        """Return what rules read of a call's place in its run, for caches; None where the answer depends on the moment.

        That is so under a budget, where a rule counts steps, and where λ depends on that of the step before.
        """
        whens = [rule.when for rule in self.all_rules]
        if self.budgeted or self.reread_cost or any(when.step is not None for when in whens):
            return None
        tags = {tag for when in whens for tag in when.tags or ()} & set(run_context.tags)
        keys = {key for when in whens for key in when.metadata or {}} & set(run_context.metadata)
        node = run_context.node if any(when.node is not None for when in whens) else None
        found = {
            "tags": sorted(tags),
            "metadata": {key: run_context.metadata[key] for key in sorted(keys)},
            "node": node,
        }
        return repr(found) if tags or keys or node is not None else ""

    # ---- budgets and attempts -----------------------------------------------------------------------------------

    def account(self, run_context: RunContext) -> str:
        """Name the budget account of a step: its thread's or its root run's; a call alone is a run of its own."""
        if self._spec.run.per == "thread" and run_context.thread_id:
            return f"{THREAD}{run_context.thread_id}"
        root = run_context.root_run_id or run_context.parent_run_id or run_context.run_id or run_context.call_id
        return f"{RUN}{root}"

    @property
    def run_budget(self) -> RunBudget:
        """Return what one run or thread may use."""
        return self._spec.run

    @property
    def tool_budgets(self) -> dict[str, int]:
        """Return ``run_max_reasoning_tokens`` by tool, where it is set."""
        budgets = {name: tool.run_max_reasoning_tokens for name, tool in self._spec.tools.items()}
        return {name: budget for name, budget in budgets.items() if budget is not None}

    @property
    def budgeted(self) -> bool:
        """Tell whether any budget is set, so that attempts must be settled."""
        return self._spec.run.limited or bool(self.tool_budgets)

    def rejects(self, step: Step, reply: Reply) -> str:
        """Say why a reply is not good enough for ``escalation``; "" if it is."""
        return escalation.rejection(self._spec.escalation, self.verifier, step, reply)

    def may_retry(self, decision: Decision) -> bool:
        """Tell whether another attempt is allowed, and λ can still be raised (or a rule is about later attempts)."""
        return self.checks(decision) or escalation.may_retry(
            self.frontier, decision, self._spec.escalation, self.all_rules
        )

    @property
    def cascade_plan(self) -> Cascade | None:
        """Return ``cascade`` as it was read; None where it is off."""
        return self._spec.cascade

    @property
    def vote_plan(self) -> SelfConsistency | None:
        """Return ``self_consistency`` as it was read; None where it is off."""
        return self._spec.self_consistency

    def checks(self, decision: Decision) -> bool:
        """Tell whether a cascade checks the attempt's reply: there is another of its λs above, within the bounds."""
        return (
            decision.plan == "cascade" and self._spec.cascade is not None and bool(self._spec.cascade.above(decision))
        )

    def may_redraw(self, decision: Decision) -> bool:
        """Tell whether a tool call that cannot be read would be asked for once more, although no attempts are set."""
        return escalation.may_redraw(self.frontier, decision, self._spec.escalation)

    def redraws(self, step: Step, decision: Decision, reply: Reply) -> str:
        """Say why the reply is asked for once more, although no attempts are set; "" if it is not."""
        return escalation.unreadable_call(step, decision, reply) if self.may_redraw(decision) else ""

    def cut_by_budget(self, decision: Decision) -> bool:
        """Tell whether the cap on the reply's tokens is what a budget left, and not the caller's or a rule's."""
        return decision.limits.max_tokens_by == "budget"

    @property
    def attempts(self) -> int:
        """Bound how often a step is tried; one more where time is budgeted, to answer when it has run out."""
        spec, cascade, votes = self._spec.escalation, self._spec.cascade, self._spec.self_consistency
        planned = (cascade.attempts if cascade is not None else 0) + (votes.samples if votes is not None else 0)
        return planned + spec.attempts + spec.redraws_calls + self._spec.run.timed

    @property
    def retries_schema_failures(self) -> bool:
        """Tell whether an ``OutputError`` is a reason for another attempt."""
        return "schema_failure" in self._spec.escalation.on


def _settings_of(asked: IntensityRequest) -> Settings:
    """Convert a default that is given as what a caller would ask for."""
    return Settings.model_validate({"intensity": asked.intensity, **({"effort": asked.effort} if asked.effort else {})})


def _remade(cls: type[ReasoningPolicy], given: dict[str, Any]) -> ReasoningPolicy:
    return cls(**given)
