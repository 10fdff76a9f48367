"""Agent tasks solved by real LangChain agents, one mode of choosing λ at a time.

Each task runs in an agent of ``langchain.agents.create_agent`` with ChatDAMI and the task's own tools; many run at
once, so that their requests share batches. What a step cost is read from the record that goes to the ledger, so output
tokens hold everything: thoughts, answers, and discarded probes. A run that fails counts as unsolved, with its cost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dami_agent.errors import UsageError
from dami_agent.evaluation.runner import MAX_TOKENS, stream_seed
from dami_agent.ledger import Ledger
from dami_agent.policy import ReasoningPolicy
from dami_agent.tasks import AgentTask, TaskTool
from dami_agent.types import CallRecord, Estimator, modules_of

MOST_CALLS = 10
"""Model calls of one run before it is given up (LangGraph's recursion limit): the longest task needs six."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """Hold one model call of a run, as its ledger record tells it.

    ``task`` counts from 0, ``step`` from 1; ``reasoning_tokens`` include discarded ones, ``thought_tokens`` are those
    of the thought that was kept, as budgets count them; ``charged_to`` is the tool whose budget pays for them, or
    ``answer``; ``rule`` is the policy's rule that won, "" for none; ``capped`` says that a cap closed the thought, a
    policy's or budget's cap cut the reply, or a budget disabled the tools; ``depth`` is how much the reference
    solution's step of this number works out (``AgentTask.depths``), None beyond it; ``thought`` is its text.
    """

    task: int
    step: int
    tool: str | None
    digested: tuple[str, ...]
    called: tuple[str, ...]
    intensity: float | None
    reason: str
    prompt_tokens: int
    reasoning_tokens: int
    answer_tokens: int
    seconds: float
    charged_to: str = "answer"
    rule: str = ""
    capped: bool = False
    thought_tokens: int = 0
    depth: int | None = None
    thought: str = ""
    error: str | None = None

    @property
    def output_tokens(self) -> int:
        """Return all output tokens of the step: thought, answer and discarded probes."""
        return self.reasoning_tokens + self.answer_tokens

    def to_dict(self) -> dict[str, Any]:
        """Return a step of ``dami demo --json``, where tasks count from 1 as on the terminal."""
        return {
            "task": self.task + 1,
            "step": self.step,
            "tool": self.tool,
            "depth": self.depth,
            "lambda": self.intensity,
            "reason": self.reason,
            "prompt_tokens": self.prompt_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "answer_tokens": self.answer_tokens,
            "seconds": round(self.seconds, 4),
            **({} if (text := modules_of(self.intensity)) is None else {"lambda_modules": text}),
        }


def step_row(record: CallRecord, task: int, step: int, depth: int | None = None) -> StepRow:
    """Make the row of one record; ``tool`` is what the call asked for, else the one whose result it read.

    Args:
        record: as it goes to the ledger.
        task: number of the task, from 0.
        step: number of the step in its run, from 1.
        depth: of the reference solution's step of that number.
    """
    generation, decision, reply = record.generation, record.decision, record.reply
    called = tuple(call.name for call in reply.tool_calls) if reply else ()
    digested = record.step.digested_tools
    return StepRow(
        task=task,
        step=step,
        tool=", ".join(called or dict.fromkeys(digested)) or None,
        digested=digested,
        called=called,
        intensity=decision.intensity if decision else None,
        reason=decision.reason if decision else "",
        prompt_tokens=len(record.prompt.token_ids) if record.prompt else 0,
        reasoning_tokens=record.output_tokens - (generation.answer_tokens if generation else 0),
        answer_tokens=generation.answer_tokens if generation else 0,
        seconds=record.seconds,
        charged_to=decision.charged_to if decision else "answer",
        rule=decision.rule if decision else "",
        capped=_capped(record),
        thought_tokens=generation.reasoning_tokens if generation else 0,
        depth=depth,
        thought=reply.reasoning if reply else "",
        error=record.error,
    )


def _capped(record: CallRecord) -> bool:
    """Return whether a limit on tokens that a rule or a budget may set had an effect on the step."""
    generation, decision = record.generation, record.decision
    if generation is None or decision is None:
        return False
    cut = generation.finish_reason == "length" and decision.limits.max_tokens_by in ("policy", "budget")
    closed = generation.thought_closed_by == "cap" and decision.limits.max_reasoning_tokens is not None
    return cut or closed or decision.tools_disabled


@dataclass(slots=True, kw_only=True)
class TaskRun:
    """Hold one task, run in one mode."""

    task: int
    solved: bool = False
    answer: str = ""
    error: str | None = None
    seconds: float = 0.0
    steps: list[StepRow] = field(default_factory=list)

    @property
    def output_tokens(self) -> int:
        """Return the output tokens of all steps, failed ones too."""
        return sum(step.output_tokens for step in self.steps)

    @property
    def reasoning_tokens(self) -> int:
        """Return the reasoning tokens of all steps: thoughts and discarded probes."""
        return sum(step.reasoning_tokens for step in self.steps)


Caps = Callable[[TaskRun, Sequence[str]], "int | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """Say how λ is chosen in a set of runs.

    Attributes:
        name: as it stands in the tables.
        intensity: a number, ``"auto"`` for the estimator, or None for what the policy says.
        policy: of the model; every run has an account of its own in its budgets.
        estimator: makes the estimator of a task's run from its number; None for the model's own.
        settings: further arguments of ChatDAMI, such as a cap on thoughts.
        caps: says how long the next thought of a run may be, from the run so far and the tools whose results are read.
        tries: how often a run is begun anew, with another random stream, after an error, a tool's error or a blank
            reply; all tries are paid for.
    """

    name: str
    intensity: float | Literal["auto"] | None
    policy: ReasoningPolicy | None = None
    estimator: Callable[[int], Estimator] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    caps: Caps | None = None
    tries: int = 1


DAMI = Mode(name="dami", intensity="auto")
INSTRUCT = Mode(name="instruct", intensity=0.0)
THINKING = Mode(name="thinking", intensity=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeResult:
    """Hold all runs of one mode, by task; ``seconds`` is wall time of the whole."""

    mode: Mode
    runs: tuple[TaskRun, ...]
    seconds: float

    @property
    def solved(self) -> int:
        """Return how many tasks were solved."""
        return sum(run.solved for run in self.runs)

    @property
    def output_tokens(self) -> int:
        """Return the output tokens of all runs."""
        return sum(run.output_tokens for run in self.runs)

    @property
    def reasoning_tokens(self) -> int:
        """Return the reasoning tokens of all runs."""
        return sum(run.reasoning_tokens for run in self.runs)

    def totals(self) -> dict[str, Any]:
        """Return a mode's totals of ``dami demo --json``."""
        return {
            "solved": self.solved,
            "tasks": len(self.runs),
            "output_tokens": self.output_tokens,
            "seconds": round(self.seconds, 2),
        }


class WatchedLedger(Ledger):
    """Ledger that shows each record to a listener after keeping it; called on the thread of the call."""

    def __init__(self, inner: Ledger, listen: Callable[[CallRecord], None]) -> None:
        super().__init__(None)
        self._inner = inner
        self._listen = listen

    def record(self, record: CallRecord) -> None:
        """Keep ``record``, then show it."""
        self._inner.record(record)
        self._listen(record)


Listener = Callable[[AgentTask, TaskRun, "StepRow | None"], None]
"""Told of every step of a run as it ends, and with None when the run is over; may be called from several threads."""


def require_langchain() -> None:
    """Raise ``UsageError`` unless the ``[agents]`` extra is installed."""
    try:
        import langchain.agents  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            f"agents need the extra [agents], which is not installed ({error})",
            hint='pip install "dami-agent[agents]"',
        ) from error


def run_mode(
    tasks: Sequence[AgentTask],
    mode: Mode,
    *,
    seed: int = 0,
    first: int = 0,
    concurrency: int = 32,
    ledger: Ledger | None = None,
    model: dict[str, Any] | None = None,
    listen: Listener | None = None,
) -> ModeResult:
    """Solve all tasks in one mode.

    Args:
        tasks: solved by agents of their own; equal seeds give equal random streams in every mode.
        mode: how λ is chosen.
        seed: of the runs' random streams.
        first: number of the first task, where these are a part of more.
        concurrency: runs at a time.
        ledger: where the calls are kept; None keeps nothing.
        model: further arguments of ChatDAMI, such as the pair.
        listen: told of every step.

    Raises:
        UsageError: langchain is not installed.
        CheckpointError: the pair cannot be used.
    """
    require_langchain()
    inner = ledger if ledger is not None else Ledger.disabled()
    runs = [TaskRun(task=first + index) for index in range(len(tasks))]

    async def one(task: AgentTask, run: TaskRun, gate: asyncio.Semaphore) -> None:
        async with gate:
            await _solve(task, run, mode, seed, inner, model or {}, listen)

    async def everything() -> None:
        gate = asyncio.Semaphore(concurrency)
        await asyncio.gather(*(one(task, run, gate) for task, run in zip(tasks, runs, strict=True)))

    started = time.perf_counter()
    asyncio.run(everything())
    return ModeResult(mode=mode, runs=tuple(runs), seconds=time.perf_counter() - started)


async def _solve(
    task: AgentTask,
    run: TaskRun,
    mode: Mode,
    seed: int,
    ledger: Ledger,
    model: dict[str, Any],
    listen: Listener | None,
) -> None:
    """Run agents to their end, one unless the mode tries again; what they raise is kept in the run, then unsolved."""

    def heard(record: CallRecord) -> None:
        number = len(run.steps)
        row = step_row(record, run.task, number + 1, task.depths[number] if number < task.steps else None)
        run.steps.append(row)
        if listen is not None:
            listen(task, run, row)

    started = time.perf_counter()
    for attempt in range(mode.tries):
        stream = stream_seed("agents", seed, task.prompt, *([attempt] if attempt else []))  # the first is every mode's
        messages = await _attempt(task, run, mode, stream, WatchedLedger(ledger, heard), model)
        if run.error is None and run.answer.strip() and not any(tool_error(each) for each in messages):
            break
    run.seconds = time.perf_counter() - started
    if listen is not None:
        listen(task, run, None)


async def _attempt(
    task: AgentTask, run: TaskRun, mode: Mode, seed: int, ledger: Ledger, model: Mapping[str, Any]
) -> list[Any]:
    """Run one agent once; its answer or error is kept in the run, and its messages are returned."""
    from langchain.agents import create_agent

    from dami_agent.chat_model import ChatDAMI

    settings: dict[str, Any] = {"max_tokens": MAX_TOKENS, "policy": mode.policy, **model, **mode.settings}
    if mode.estimator is not None:
        settings["estimator"] = mode.estimator(run.task)
    chat = ChatDAMI(reasoning_intensity=mode.intensity, seed=seed, ledger=ledger, **settings)
    middleware = [_capped_thoughts(mode.caps, run)] if mode.caps is not None else []
    agent: Any = create_agent(chat, [as_langchain(tool) for tool in task.tools], middleware=middleware)
    config = {"recursion_limit": 2 * MOST_CALLS, "run_name": f"{mode.name}:{run.task}"}
    run.answer, run.error, run.solved = "", None, False
    try:
        state = await agent.ainvoke({"messages": [{"role": "user", "content": task.prompt}]}, config)
    except Exception as error:  # a benchmark goes on; the error is reported with the run
        run.error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return []
    run.answer = str(state["messages"][-1].text)
    run.solved = task.grade(run.answer)
    return list(state["messages"])


def _capped_thoughts(caps: Caps, run: TaskRun) -> Any:
    """Make the middleware that closes each thought where ``caps`` says."""
    from langchain.agents.middleware import wrap_model_call
    from langchain_core.messages import ToolMessage

    @wrap_model_call
    async def close_thoughts(request: Any, handler: Any) -> Any:
        read: list[str] = []
        for message in reversed(request.messages):
            if not isinstance(message, ToolMessage):
                break
            read.append(str(message.name))
        cap = caps(run, read)
        if cap is None:
            return await handler(request)
        return await handler(request.override(model_settings={**request.model_settings, "max_reasoning_tokens": cap}))

    return close_thoughts


def tool_error(message: Any) -> bool:
    """Tell whether a message is a tool's that reports an error."""
    text = str(getattr(message, "text", "")) if getattr(message, "type", "") == "tool" else ""
    return getattr(message, "status", "") == "error" or text.startswith("Error")


def as_langchain(tool: TaskTool) -> Any:
    """Convert a task's tool to LangChain's: the same name, description and JSON schema, the same function behind it."""
    from langchain_core.tools import StructuredTool

    def call(**arguments: Any) -> str:
        return tool.call(arguments)

    spec = tool.spec
    return StructuredTool(name=spec.name, description=spec.description, args_schema=dict(spec.parameters), func=call)


def warm_up(model: dict[str, Any]) -> None:
    """Read the weights before the clock starts, so that the first mode does not pay for all."""
    from dami_agent.chat_model import ChatDAMI

    require_langchain()
    ChatDAMI(ledger="off", **{**model, "max_tokens": 4}, reasoning_intensity=0.0).invoke("Hello")
