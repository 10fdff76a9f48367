"""Step -> decision: what was asked, which rule won, what budgets left, what the estimator says; the reason in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import Self

from dami_agent.policy import caps, escalation, load
from dami_agent.policy.accounts import RUN, THREAD, Spent
from dami_agent.policy.budget_allowance import Allowance
from dami_agent.policy.budgets import Budgets
from dami_agent.policy.cautions import warn_of_greedy_thinking
from dami_agent.policy.escalation import Verifier
from dami_agent.policy.frontier import Frontier
from dami_agent.policy.match import Facts, all_rules, match
from dami_agent.policy.presets import read_preset
from dami_agent.policy.resolve import EstimateFn, IntensityQuery, resolve
from dami_agent.policy.rules import Escalation, PolicyFile, Rule, RunBudget, Settings, ToolSettings
from dami_agent.policy.spelling import Spelling
from dami_agent.types import Ask, Decision, Intensity, Reply, Step, Trace, Usage


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReasoningPolicy:
    """Chooses λ, template and limits for each step.

    Precedence. What the caller asked (init < configurable < bind < call is settled before, in
    :class:`~dami_agent.types.Ask`) beats what the winning rule asks, and that beats ``default``; a caller's ``"auto"``
    leaves the choice to the rule. A number beats an effort name, an effort name beats ``"auto"``. Only estimates snap
    to the frontier's grid. Bounds come after all of that, for explicit numbers too; then a challenged answer's floor
    (never for a number or effort the caller gave); budget ceilings last. Caps only tighten. What a rule leaves out is
    ``default``'s.

    Attributes:
        frontier: of the pair in use; an empty one is filled in by :class:`~dami_agent.chat_model.ChatDAMI`.
        default: settings of steps that no rule is about.
        name: kept in the ledger.
        rules, tools, nodes, run, escalation, accuracy_over_cost, challenge: see :mod:`dami_agent.policy.rules`; given
            as those models or as plain dicts.
        verifier: judges replies, if ``escalation`` has attempts for it.

    Raises:
        InvalidPolicy: naming the field.
    """

    frontier: Frontier = field(default_factory=Frontier)
    default: Settings | Ask | Mapping[str, Any] = field(default_factory=Settings)
    name: str = "default"
    rules: Sequence[Rule | Mapping[str, Any]] = ()
    tools: Mapping[str, ToolSettings | Mapping[str, Any]] = field(default_factory=dict)
    nodes: Mapping[str, Settings | Mapping[str, Any]] = field(default_factory=dict)
    run: RunBudget | Mapping[str, Any] = field(default_factory=RunBudget)
    escalation: Escalation | Mapping[str, Any] = field(default_factory=Escalation)
    accuracy_over_cost: float = 0.5
    challenge: bool = False
    verifier: Verifier | None = None
    _spec: PolicyFile = field(init=False, compare=False)
    _rules: tuple[Rule, ...] = field(init=False, compare=False)
    _budgets: Budgets = field(init=False, compare=False)
    _warned: set[str] = field(init=False, compare=False, default_factory=set)
    _spelling: Spelling = field(init=False, compare=False)

    def __post_init__(self) -> None:
        default = _settings_of(self.default) if isinstance(self.default, Ask) else self.default
        given = {name: getattr(self, name) for name in PolicyFile.model_fields} | {"default": default}
        spec = load.read_dict(given, "ReasoningPolicy")
        for name in PolicyFile.model_fields:
            object.__setattr__(self, name, getattr(spec, name))
        budgets = {n: t.run_max_reasoning_tokens for n, t in spec.tools.items()}
        object.__setattr__(self, "_spec", spec)
        object.__setattr__(self, "_rules", all_rules(spec))
        object.__setattr__(self, "_spelling", Spelling(self._rules))
        object.__setattr__(self, "_budgets", Budgets(spec.run, {n: b for n, b in budgets.items() if b is not None}))

    def __repr__(self) -> str:
        """All that changes a decision, the same in every process: it is part of cache keys."""
        judge = self.verifier
        name = getattr(judge, "__qualname__", type(judge).__qualname__)
        verifier = f", verifier={getattr(judge, '__module__', '')}.{name}" if judge is not None else ""
        given = {n: getattr(self._spec, n) for n in PolicyFile.model_fields}
        blank = PolicyFile()
        said = "".join(f", {n}={v!r}" for n, v in given.items() if n != "name" and v != getattr(blank, n))
        return f"ReasoningPolicy(name={self.name!r}{said}{verifier}, frontier={self.frontier!r})"

    def __deepcopy__(self, memo: object) -> Self:
        """Share the policy: it never changes, and whoever copies a chat model goes on spending the same budgets."""
        return self

    def __reduce__(self) -> tuple[Callable[..., ReasoningPolicy], tuple[Any, ...]]:
        """Pickle the settings; another process begins with unspent budgets."""
        given = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.init}
        return _remade, (type(self), given)

    # ---- reading ------------------------------------------------------------------------------------------------

    @classmethod
    def from_file(cls, path: str | Path, *, frontier: Frontier | None = None, verifier: Verifier | None = None) -> Self:
        """A YAML or TOML file with the keys ``default tools nodes rules run escalation`` and more.

        Raises:
            InvalidPolicy: naming file, line and field.
        """
        return cls._of(load.read_file(path), Path(path).stem, frontier, verifier)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, frontier: Frontier | None = None, verifier: Verifier | None = None
    ) -> Self:
        """What a file would hold, as plain values.

        Raises:
            InvalidPolicy: naming the field.
        """
        return cls._of(load.read_dict(data), "dict", frontier, verifier)

    @classmethod
    def preset(cls, name: str, *, frontier: Frontier | None = None, verifier: Verifier | None = None) -> Self:
        """``frugal``, ``balanced`` or ``thorough``.

        Raises:
            InvalidPolicy: there is none of that name.
        """
        return cls._of(read_preset(name), name, frontier, verifier)

    @classmethod
    def _of(cls, spec: PolicyFile, name: str, frontier: Frontier | None, verifier: Verifier | None) -> Self:
        given: dict[str, Any] = {n: getattr(spec, n) for n in PolicyFile.model_fields if n in spec.model_fields_set}
        return cls(**{"name": name, **given}, frontier=frontier or Frontier(), verifier=verifier)

    def with_frontier(self, frontier: Frontier) -> Self:
        """Fill in the pair's frontier where the policy has none of its own; the accounts are shared."""
        if self.frontier.rows or not (frontier.rows or frontier.switch_point):
            return self
        other = dataclasses.replace(self, frontier=frontier)
        object.__setattr__(other, "_budgets", self._budgets)
        object.__setattr__(other, "_warned", self._warned)
        object.__setattr__(other, "_spelling", self._spelling)
        return other

    @property
    def estimators(self) -> frozenset[str]:
        """Names of the estimators that rules ask for."""
        return frozenset(s.estimator for s in (self._spec.default, *self._rules) if s.estimator)

    # ---- deciding -----------------------------------------------------------------------------------------------

    def decide(
        self,
        step: Step,
        attempt: int,
        estimate: EstimateFn,
        previous: Decision | None = None,
        why: str = "",
        *,
        final: bool = False,
        context_left: int | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Decision:
        """Decide λ, template, limits and reason for one attempt at ``step``.

        Where budgets are set this reserves; :meth:`settle` must follow, whatever becomes of the attempt.

        Args:
            step: the call.
            attempt: 0, or how many attempts were rejected before.
            estimate: runs the estimator; called only if an estimate is needed.
            previous: the decision of the attempt before; its λ is raised.
            why: what was wrong with that attempt.
            final: the budget's time came to its end in that attempt: answer now, with what is kept for that.
            context_left: output tokens that the context window leaves, where that is known.
            check: called while the step waits for what others have set aside; raises if the call was cancelled.

        Raises:
            BudgetExhausted: less is left than an answer needs.
        """
        spec, frontier = self._spec, self.frontier
        # 1. The rule that wins, and who pays.
        facts = Facts.of(step, attempt)
        self._spelling.check(facts)
        found = match(self._rules, facts, frontier)
        settings = caps.with_default(found.rule, spec.default)
        # 2. Caps, and what the budget of the run leaves of them.
        limits = caps.with_default_cap(caps.tighten(step.limits, settings), frontier, context_left)
        allowance = Allowance(limits=limits)
        if self._budgets.limited:
            account, key = self.account(step.trace), _key(step, attempt)
            allowance = self._budgets.reserve(account, key, limits, found.charged_to, final=final, check=check)
        # 3. λ.
        query = IntensityQuery(
            frontier=frontier,
            spec=spec,
            rule=found.rule,
            step=step,
            challenge=facts.challenge,
            ceiling=allowance.ceiling,
            ceiling_reason=allowance.reason,
            answer_intensity=settings.answer_intensity,
            previous=previous,
            why=why,
        )
        base = Decision(
            intensity=Intensity(0),
            template=frontier.template(Intensity(0)),
            reason="probe",
            sampling=step.sampling,
            limits=caps.with_answer_reserve(allowance.limits, allowance.answer_reserve),
            attempt=attempt,
            policy=self.name,
            rule=found.rule.name if found.rule else "",
            considered=found.considered,
            charged_to=found.charged_to,
            estimator=settings.estimator or "",
            tools_disabled=allowance.tools_disabled,
        )
        decision = resolve(query, base, estimate)
        if decision.intensity > 0 and decision.sampling.temperature == 0 and "greedy" not in self._warned:
            self._warned.add("greedy")
            warn_of_greedy_thinking(decision.intensity)
        # 4. What a discarded probe has used comes off the caps.
        return caps.charge_probe(decision) if self._budgets.limited else decision

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """The rules in the order in which they are looked at, short forms written out."""
        return self._rules

    def cache_key(self, trace: Trace) -> str | None:
        """What rules read of a call's place in its run, for caches; None where the answer depends on the moment.

        That is so under a budget, and where a rule counts steps.
        """
        whens = [rule.when for rule in self._rules]
        if self._budgets.limited or any(when.step is not None for when in whens):
            return None
        tags = {tag for when in whens for tag in when.tags or ()} & set(trace.tags)
        keys = {key for when in whens for key in when.metadata or {}} & set(trace.metadata)
        node = trace.node if any(when.node is not None for when in whens) else None
        found = {"tags": sorted(tags), "metadata": {key: trace.metadata[key] for key in sorted(keys)}, "node": node}
        return repr(found) if tags or keys or node is not None else ""

    # ---- budgets and attempts -----------------------------------------------------------------------------------

    def account(self, trace: Trace) -> str:
        """The budget account of a step: its thread's or its root run's; a call alone is a run of its own."""
        if self._spec.run.per == "thread" and trace.thread_id:
            return f"{THREAD}{trace.thread_id}"
        return f"{RUN}{trace.root_run_id or trace.parent_run_id or trace.run_id or trace.call_id}"

    def settle(self, step: Step, attempt: int, usage: Usage | None) -> None:
        """After an attempt: charge what it used, free the rest; None charges all that was set aside."""
        if self._budgets.limited:
            self._budgets.settle(self.account(step.trace), _key(step, attempt), usage)

    def charge(self, trace: Trace, usage: Usage, charged_to: str) -> None:
        """Put on the account of a step what was used before this policy saw it."""
        self._budgets.charge(self.account(trace), usage, charged_to)

    @property
    def budgeted(self) -> bool:
        """Whether any budget is set, so that attempts must be settled."""
        return self._budgets.limited

    def spent(self, trace: Trace) -> Spent:
        """What the account of a step has used so far; counted only where a budget is set."""
        return self._budgets.spent(self.account(trace))

    def rejects(self, step: Step, reply: Reply) -> str:
        """Why a reply is not good enough for ``escalation``; "" if it is."""
        return escalation.rejection(self._spec.escalation, self.verifier, step, reply)

    def may_retry(self, decision: Decision) -> bool:
        """Whether another attempt is allowed, and λ can still be raised (or a rule is about later attempts)."""
        return escalation.may_retry(self.frontier, decision, self._spec.escalation, self._rules)

    def may_redraw(self, decision: Decision) -> bool:
        """Whether a tool call that cannot be read would be asked for once more, although no attempts are set."""
        return escalation.may_redraw(self.frontier, decision, self._spec.escalation)

    def redraws(self, step: Step, decision: Decision, reply: Reply) -> str:
        """Why the reply is asked for once more, although no attempts are set; "" if it is not."""
        return escalation.unreadable_call(step, decision, reply) if self.may_redraw(decision) else ""

    def cut_by_budget(self, decision: Decision) -> bool:
        """Whether the cap on the reply's tokens is what a budget left, and not the caller's or a rule's."""
        return decision.limits.max_tokens_by == "budget"

    def may_finish(self, step: Step, attempt: int) -> bool:
        """Whether an attempt that came to its deadline was stopped by the budget, which kept time for an answer."""
        return self._budgets.timed(self.account(step.trace), _key(step, attempt))

    @property
    def attempts(self) -> int:
        """How often a step is tried at most; one more where time is budgeted, to answer when it has run out."""
        spec = self._spec.escalation
        return spec.attempts + spec.redraws_calls + self._budgets.timing

    @property
    def retries_schema_failures(self) -> bool:
        """Whether an ``OutputError`` is a reason for another attempt."""
        return "schema_failure" in self._spec.escalation.on


def _settings_of(asked: Ask) -> Settings:
    """Convert a default that is given as what a caller would ask for."""
    return Settings.model_validate({"intensity": asked.intensity, **({"effort": asked.effort} if asked.effort else {})})


def _key(step: Step, attempt: int) -> tuple[str | int, int]:
    return (step.trace.call_id or id(step), attempt)


def _remade(cls: type[ReasoningPolicy], given: dict[str, Any]) -> ReasoningPolicy:
    return cls(**given)
