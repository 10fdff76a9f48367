"""Hold LangChain's ``create_agent`` to reasoning policies and token budgets: ``ReasoningBudgetMiddleware``.

It chooses nothing itself. It tells the model's pipeline which policy the run is under and what its thread has left,
and acts on the verdict: an agent whose budget is used up ends, or fails, as the user said.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from langchain_core.messages import AIMessage
from typing_extensions import NotRequired, override

from dami_agent.chat_model.langchain_errors import langchain_errors
from dami_agent.errors import BudgetExhausted, UsageError
from dami_agent.integrations.agent_runs import AgentRun, AgentRuns, Tokens, budget_of
from dami_agent.integrations.policy_injection import current_run, run_policy, unwrap_model, with_policy
from dami_agent.policy import ReasoningPolicy, ToolSettings
from dami_agent.policy.registry import read_policy

try:
    from langchain.agents.middleware.types import (
        AgentMiddleware,
        AgentState,
        ContextT,
        ExtendedModelResponse,
        ModelRequest,
        ModelResponse,
        PrivateStateAttr,
        ResponseT,
        hook_config,
    )
    from langchain_core.exceptions import ModelError
    from langgraph.channels.untracked_value import UntrackedValue
    from langgraph.types import Command
except ImportError as error:
    raise UsageError(
        f"ReasoningBudgetMiddleware needs langchain 1.4 or later: {error}", hint='pip install "dami-agent[agents]"'
    ) from error

if TYPE_CHECKING:
    from langgraph.runtime import Runtime

ExitBehavior = Literal["taper", "end", "error"]
"""What happens as a budget drains: see :class:`ReasoningBudgetMiddleware`."""


class ReasoningBudgetState(AgentState[ResponseT]):
    """State schema for ``ReasoningBudgetMiddleware``: output tokens, and those of them in thoughts."""

    thread_model_tokens: NotRequired[Annotated[int, PrivateStateAttr]]
    run_model_tokens: NotRequired[Annotated[int, UntrackedValue, PrivateStateAttr]]
    thread_reasoning_tokens: NotRequired[Annotated[int, PrivateStateAttr]]
    run_reasoning_tokens: NotRequired[Annotated[int, UntrackedValue, PrivateStateAttr]]


class ReasoningBudgetExceededError(BudgetExhausted, ModelError):
    """A budget is used up and ``exit_behavior`` is ``"error"``; counts and limits are output tokens.

    LangChain's retry middleware leaves it alone (``ModelError.is_retryable`` is False): a retry would find no more.
    """

    def __init__(
        self,
        thread_tokens: int,
        run_tokens: int,
        thread_limit: int | None,
        run_limit: int | None,
        reason: str = "",
    ) -> None:
        self.thread_tokens = thread_tokens
        self.run_tokens = run_tokens
        self.thread_limit = thread_limit
        self.run_limit = run_limit
        given = (("thread", thread_tokens, thread_limit), ("run", run_tokens, run_limit))
        limits = [(name, used, limit) for name, used, limit in given if limit is not None]
        reached = ", ".join(f"{name} limit ({used}/{limit} tokens)" for name, used, limit in limits if used >= limit)
        counts = ", ".join(f"{name} {used}/{limit} tokens" for name, used, limit in limits)
        super().__init__(
            f"Reasoning budget exceeded: {reached or reason + (f' ({counts})' if counts else '')}",
            hint="raise the limit, or say exit_behavior='end' to keep tokens for an answer",
        )


class ReasoningBudgetMiddleware(AgentMiddleware[ReasoningBudgetState[ResponseT], ContextT, ResponseT]):
    """A reasoning policy, per-tool budgets and token limits for an agent whose model is a ``ChatDAMI``.

    ::

        budget = ReasoningBudgetMiddleware(run_limit=800, tools={"search": {"run_max_reasoning_tokens": 200}})
        agent = create_agent(ChatDAMI(), tools=[search], middleware=[budget])

    Tokens are output tokens: thoughts, answers, and discarded attempts. Limits are hard. A **run** is the outermost
    LangChain run: an agent inside a graph, or behind another agent's tool, spends from that one's account. A **thread**
    is a ``thread_id``; with a checkpointer its count is part of the checkpoint. Two runs of one thread at the same time
    each get what was left when they began.

    The policy is, in this order: ``policy`` in LangGraph's ``context`` or in ``config["configurable"]`` of the run;
    ``policy=`` here; the model's own. It is settled at a run's first model call. Limits given here come on top and only
    tighten its run budget; a tool named here replaces the policy's settings of that tool.

    The accounts are the model's; one middleware keeps one account per run for all models that it governs in it. Other
    models (a summariser's) spend from the same account if they are given the same policy and one ``BudgetTracker``.

    The state counters ``thread_model_tokens``, ``run_model_tokens``, ``thread_reasoning_tokens`` and
    ``run_reasoning_tokens`` are kept where there is any budget, by limit or policy.

    Args:
        thread_limit: output tokens of a thread.
        run_limit: output tokens of a run.
        thread_reasoning_limit: tokens of the thoughts in a thread.
        run_reasoning_limit: tokens of the thoughts in a run.
        tools: settings and budgets by tool, as in a policy: ``{"search": {"run_max_reasoning_tokens": 400}}``.
        policy: a ``ReasoningPolicy``, or a preset, path or dict that makes one.
        exit_behavior: what to do as a budget drains; None is the policy's ``run.on_exhausted``.

            - ``"end"``: the last tokens are kept for a final answer, without tools and at λ=0, and what is too little
              for a thought for answers at λ=0 before it; a run with too little left ends with a message that says so.
            - ``"taper"``: as ``"end"``, and before that λ's ceiling and the caps sink with what is left.
            - ``"error"``: raise ``ReasoningBudgetExceededError``.

    Raises:
        UsageError: limits that are no whole numbers or exceed one another, or an unknown ``exit_behavior``.
        InvalidPolicy: ``policy`` or ``tools`` that do not validate.
    """

    state_schema = ReasoningBudgetState  # type: ignore[assignment]

    def __init__(
        self,
        *,
        thread_limit: int | None = None,
        run_limit: int | None = None,
        thread_reasoning_limit: int | None = None,
        run_reasoning_limit: int | None = None,
        tools: Mapping[str, ToolSettings | Mapping[str, Any]] | None = None,
        policy: Any = None,
        exit_behavior: ExitBehavior | None = None,
    ) -> None:
        super().__init__()
        _check("limit", run_limit, thread_limit, least=1)
        _check("reasoning_limit", run_reasoning_limit, thread_reasoning_limit, least=0)
        if exit_behavior not in (None, "taper", "end", "error"):
            raise UsageError(f"exit_behavior={exit_behavior!r}", hint="'taper', 'end', 'error' or None")
        self.thread_limit = thread_limit
        self.run_limit = run_limit
        self.policy = read_policy(policy)
        self.exit_behavior = exit_behavior
        self._default = ReasoningPolicy()
        self._runs = AgentRuns(
            thread_limit=thread_limit,
            run_limit=run_limit,
            thread_reasoning_limit=thread_reasoning_limit,
            run_reasoning_limit=run_reasoning_limit,
            tools=ReasoningPolicy(tools=tools or {}).tools,  # type: ignore[arg-type]  # validated into models
            on_exhausted=exit_behavior,
        )

    # ---- hooks --------------------------------------------------------------------------------------------------

    @hook_config(can_jump_to=["end"])
    @override
    def before_model(self, state: ReasoningBudgetState[ResponseT], runtime: Runtime[ContextT]) -> dict[str, Any] | None:
        """End the agent, or fail, where not one token is left."""
        config, run_context = current_run()
        thread = self._runs.thread_used(run_context, _counted(state))
        run = Tokens(state.get("run_model_tokens", 0))
        if not (_reached(thread.model, self.thread_limit) or _reached(run.model, self.run_limit)):
            return None
        policy = run_policy(config, runtime.context) or self.policy
        on_exhausted = self.exit_behavior or (budget_of(policy).on_exhausted if policy is not None else "end")
        return {"jump_to": "end", "messages": [self._exit(on_exhausted, thread, run)]}

    @hook_config(can_jump_to=["end"])
    async def abefore_model(
        self, state: ReasoningBudgetState[ResponseT], runtime: Runtime[ContextT]
    ) -> dict[str, Any] | None:
        """Do as :meth:`before_model`, for async agents."""
        return self.before_model(state, runtime)

    def wrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], ModelResponse[ResponseT]],
    ) -> ExtendedModelResponse[ResponseT]:
        """Call the model under the run's policy."""
        run, governed = self._governed(request)
        try:
            return self._answered(run, handler(governed))
        except BudgetExhausted as error:
            return self._exhausted(run, error)
        finally:
            self._runs.leave(run)

    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[ResponseT]]],
    ) -> ExtendedModelResponse[ResponseT]:
        """Do as :meth:`wrap_model_call`, for async agents."""
        run, governed = self._governed(request)
        try:
            return self._answered(run, await handler(governed))
        except BudgetExhausted as error:
            return self._exhausted(run, error)
        finally:
            self._runs.leave(run)

    # ---- before and after a call --------------------------------------------------------------------------------

    @langchain_errors()
    def _governed(self, request: ModelRequest[ContextT]) -> tuple[AgentRun, ModelRequest[ContextT]]:
        """Find the request's run, and put its model under that run's policy."""
        model, bound = unwrap_model(request.model, type(self).__name__)
        config, run_context = current_run()
        base = run_policy(config, request.runtime.context) or self.policy or model.policy or self._default
        run = self._runs.enter(base, model.budgets, run_context, _counted(request.state))
        model_settings = {**bound, **request.model_settings}
        return run, request.override(model=with_policy(model, run.policy, run.budgets), model_settings=model_settings)

    def _answered(self, run: AgentRun, response: ModelResponse[ResponseT]) -> ExtendedModelResponse[ResponseT]:
        """Add the state's counters to a response; they are kept even where the agent is interrupted next.

        Raises:
            ReasoningBudgetExceededError: under ``"error"``, the budget's end came in the middle of the reply.
        """
        if not run.policy.budgeted:
            return ExtendedModelResponse(response)
        thread, used = run.thread_used, run.used
        if run.failed and any(m.response_metadata.get("finish_reason") == "length" for m in response.result):
            self._exit("error", thread, used)
        update = {
            "thread_model_tokens": thread.model,
            "run_model_tokens": used.model,
            "thread_reasoning_tokens": thread.reasoning,
            "run_reasoning_tokens": used.reasoning,
        }
        return ExtendedModelResponse(response, Command(update=update))

    def _exhausted(self, run: AgentRun, error: BudgetExhausted) -> ExtendedModelResponse[ResponseT]:
        message = self._exit(budget_of(run.policy).on_exhausted, run.thread_used, run.used, error)
        return self._answered(run, ModelResponse(result=[message]))

    def _exit(self, on_exhausted: str, thread: Tokens, run: Tokens, error: BudgetExhausted | None = None) -> AIMessage:
        """Return the message that ends the agent, or the error."""
        reason = error.message if error is not None else ""
        exceeded = ReasoningBudgetExceededError(thread.model, run.model, self.thread_limit, self.run_limit, reason)
        if on_exhausted == "error":
            raise exceeded from error
        return AIMessage(content=exceeded.message)


def _counted(state: Any) -> Tokens:
    """Read what the thread has used from its checkpoint."""
    return Tokens(state.get("thread_model_tokens", 0), state.get("thread_reasoning_tokens", 0))


def _reached(used: int, limit: int | None) -> bool:
    return limit is not None and used >= limit


def _check(name: str, run: int | None, thread: int | None, *, least: int) -> None:
    for prefix, value in (("run", run), ("thread", thread)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise UsageError(f"{prefix}_{name} must be a whole number of at least {least}, got {value!r}")
    if run is not None and thread is not None and run > thread:
        raise UsageError(f"run_{name} ({run}) cannot exceed thread_{name} ({thread})", hint="lower the run's")
