"""Single steps of agent tasks, after the history of their reference solution: what estimators learn from.

The **label** of a step is the smallest λ at which it is still right (as in Ares, arXiv 2603.07915): its call is one
that the plan makes in that turn, or its reply is graded right. One sample for each λ, so a label is a noisy one; a
lucky try at a small λ counts as one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dami_agent.evaluation import runner
from dami_agent.evaluation.runner import Request
from dami_agent.evaluation.tool_calls import bound_tools
from dami_agent.session import Session
from dami_agent.tasks import AgentTask, PlannedCall
from dami_agent.types import Intensity, Message, Reply, Sampling, Step, ToolCall

Right = Callable[[Reply], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceStep:
    """Hold one model turn of a task: what is sent, how its reply is judged, and how much it must work out.

    ``calling`` says that it calls tools; else it is the final reply.
    """

    step: Step
    right: Right
    depth: int
    calling: bool


def reference_steps(task: AgentTask, sampling: Sampling, thoughts: Sequence[str] = ()) -> list[ReferenceStep]:
    """Return every model turn of the reference solution, with all that happened before it.

    Args:
        task: with its reference solution.
        sampling: of every turn.
        thoughts: what an agent has thought before its calls, turn by turn, as its history holds it.
    """
    messages: list[Message] = [Message(role="user", content=task.prompt)]
    found: list[ReferenceStep] = []
    for index, group in enumerate((*task.rounds, ())):
        step = runner.question_step(task.prompt, sampling=sampling, max_tokens=runner.MAX_TOKENS)
        step = dataclasses.replace(step, messages=tuple(messages), tools=bound_tools(task))
        right = calls_of(group) if group else replies_to(task)
        found.append(ReferenceStep(step=step, right=right, depth=task.depths[index], calling=bool(group)))
        messages += _said(index, group, thoughts[index] if index < len(thoughts) else "")
    return found


def _said(index: int, group: Sequence[PlannedCall], thought: str) -> list[Message]:
    """Return the calls of one turn, after a thought, and what the tools answered."""
    made = [
        ToolCall(id=f"call_{index}_{place}", name=call.name, arguments=call.arguments)
        for place, call in enumerate(group)
    ]
    results = [
        Message(role="tool", content=call.result, name=call.name, tool_call_id=one.id)
        for one, call in zip(made, group, strict=True)
    ]
    return [Message(role="assistant", tool_calls=tuple(made), reasoning=thought or None), *results]


def replies_to(task: AgentTask) -> Right:
    """Accept a final reply that is graded right."""
    return lambda reply: not reply.tool_calls and task.grade(reply.content)


def calls_of(planned: Sequence[PlannedCall]) -> Right:
    """Accept the calls that the plan makes in this turn, or some of them."""
    wanted = [(call.name, dict(call.arguments)) for call in planned]

    def right(reply: Reply) -> bool:
        made = [(call.name, dict(call.arguments)) for call in reply.tool_calls]
        return bool(made) and not reply.invalid_tool_calls and all(call in wanted for call in made)

    return right


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLabel:
    """Hold the smallest λ at which a step was right, None if it was at none, and that (or the last) try's tokens."""

    intensity: float | None
    tokens: int
    depth: int
    calling: bool


def label(
    session: Session,
    tasks: Sequence[AgentTask],
    grid: Sequence[float],
    *,
    seed: int = 0,
    done: Callable[[int], None] | None = None,
) -> list[list[StepLabel]]:
    """Label every step of every task, trying the λs of a grid in rising order until one is right.

    A step stands in the history that an agent of these λs has: the reference's calls after the thoughts of the replies
    that earlier steps were labelled by. So a run at the labels' λs gets these very replies.

    Args:
        session: the pair.
        tasks: with their reference solutions.
        grid: rising λs; its last one is as deep as it gets.
        seed: of the random streams, which are those of the agents' runs (`agents.run_mode`).
        done: called with 1 after each try, for a progress bar.

    Returns:
        The labels of each task's steps, in order.
    """
    found: list[list[StepLabel]] = [[] for _ in tasks]
    thoughts: list[list[str]] = [[] for _ in tasks]
    for number in range(max((task.steps for task in tasks), default=0)):
        steps = {
            place: reference_steps(
                task, Sampling(seed=runner.stream_seed("agents", seed, task.prompt)), thoughts[place]
            )[number]
            for place, task in enumerate(tasks)
            if number < task.steps
        }
        for place, (own, thought) in _labelled(session, steps, grid, done).items():
            found[place].append(own)
            thoughts[place].append(thought)
    return found


def _labelled(
    session: Session,
    steps: Mapping[int, ReferenceStep],
    grid: Sequence[float],
    done: Callable[[int], None] | None,
) -> dict[int, tuple[StepLabel, str]]:
    """Return the label of each step, and the thought of the reply that it comes from."""
    found: dict[int, tuple[StepLabel, str]] = {}
    for value in grid:
        left = [place for place in steps if place not in found or found[place][0].intensity is None]
        answers = runner.answers(
            session,
            (Request(step=steps[place].step, intensity=Intensity(value)) for place in left),
            switch_point=session.frontier.switch_point,
            prefix_intensity=session.frontier.prefix_intensity,  # as the agents' prompts are read
            done=done,
        )
        for place, answer in zip(left, answers, strict=True):
            each = steps[place]
            right = answer.error is None and each.right(answer.reply)
            own = StepLabel(
                intensity=float(value) if right else None,
                tokens=answer.tokens,
                depth=each.depth,
                calling=each.calling,
            )
            found[place] = own, answer.reply.reasoning
    return found


def sufficient(labels: Sequence[Sequence[StepLabel]], otherwise: float = 1.0) -> tuple[tuple[float, ...], ...]:
    """Return the λs of the oracle: each step's label, ``otherwise`` where no λ was enough."""
    return tuple(tuple(otherwise if each.intensity is None else each.intensity for each in steps) for steps in labels)
