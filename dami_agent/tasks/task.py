"""What a task is: frozen values, their graders, and the rule that keeps the splits apart.

Pure Python. A question or an agent task carries its own worked solution (`work`, `plan`), so that training can write
a thought from it and grading can check it; the model under test never sees them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar

from dami_agent.errors import UsageError

Split = Literal["train", "calibration", "test"]
"""Training data; data to calibrate frontiers and estimators on; data to report numbers on."""

_NUMBER = re.compile(r"-?\d+")


def digest(text: str) -> int:
    """Return a 64-bit hash of `text` that is the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big")


def split_of(text: str) -> Split:
    """Return the split a text belongs to: 80 % train, 10 % calibration, 10 % test, decided by its hash alone."""
    bucket = digest("split:" + text) % 10
    return "calibration" if bucket == 8 else "test" if bucket == 9 else "train"


def final_number(text: str) -> int | None:
    """Return the last whole number in `text` (thousands commas allowed), or None."""
    found = _NUMBER.findall(re.sub(r"(?<=\d),(?=\d{3}\b)", "", text))
    return int(found[-1]) if found else None


def final_word(text: str) -> str | None:
    """Return the last word in `text`, or None."""
    found = re.findall(r"[^\W\d_]+", text)
    return found[-1] if found else None


class Working(Protocol):
    """One step of a worked solution, as it is written at rising levels of detail."""

    @property
    def value(self) -> str:
        """What the step finds, alone: `17`."""

    @property
    def line(self) -> str:
        """The step as one would note it: `12 + 5 = 17`."""

    @property
    def detail(self) -> str:
        """The step taken apart into smaller ones; `line` where there is nothing smaller."""

    @property
    def check(self) -> str:
        """What proves the step, or nothing."""

    @property
    def said(self) -> bool:
        """Whether someone who answers tersely still says it on the way to a later step."""


@dataclass(frozen=True)
class Operation:
    """One step of arithmetic: `left symbol right = result`."""

    left: int
    symbol: Literal["+", "-", "*"]
    right: int
    said: bool = True

    @property
    def result(self) -> int:
        """The value of the operation."""
        if self.symbol == "+":
            return self.left + self.right
        return self.left - self.right if self.symbol == "-" else self.left * self.right

    @property
    def value(self) -> str:
        """Return `17`."""
        return str(self.result)

    @property
    def line(self) -> str:
        """The operation as one would write it: `12 + 5 = 17`."""
        return f"{self.left} {self.symbol} {self.right} = {self.result}"

    @property
    def detail(self) -> str:
        """A product by places: `47 * 6: 40 * 6 = 240, 7 * 6 = 42, 240 + 42 = 282`; sums are done at once."""
        parts = _product_parts(self) if self.symbol == "*" else []
        if len(parts) < 2:
            return self.line
        return f"{self.left} {self.symbol} {self.right}: {', '.join(part.line for part in parts)}"

    @property
    def check(self) -> str:
        """The inverse operation, which proves the line: `17 - 5 = 12`."""
        inverse = {"+": "-", "-": "+", "*": "/"}[self.symbol]
        return f"{self.result} {inverse} {self.right} = {self.left}"


def _places(number: int) -> list[int]:
    """`236` -> `[200, 30, 6]`, zeros left out."""
    digits = str(number)
    return [int(digit) * 10 ** (len(digits) - 1 - i) for i, digit in enumerate(digits) if digit != "0"]


def _product_parts(step: Operation) -> list[Operation]:
    """Every place of one factor times every place of the other, added up as one goes."""
    parts: list[Operation] = []
    total: int | None = None
    for right in _places(step.right):
        for left in _places(step.left):
            parts.append(Operation(left, "*", right))
            if total is not None:
                parts.append(Operation(total, "+", parts[-1].result))
            total = parts[-1].result
    return parts


@dataclass(frozen=True)
class Note:
    """One step that is not arithmetic: a comparison, a hop from name to name."""

    value: str
    line: str
    check: str = ""
    said: bool = False

    @property
    def detail(self) -> str:
        """There is nothing smaller."""
        return self.line


DEPTHS = (0, 1, 2, 3, 4, 5)
"""What a step of an agent can need: nothing worked out, then as much as the questions of levels 1 to 5 do."""

_LEAST = (0, 1, 2, 3, 5, 8)
"""Depth -> operations or comparisons from which on a step has it."""


def depth_of(work: Sequence[Working]) -> int:
    """Return how much working a step needs, 0 to 5; a product of two factors of two digits counts as four of them."""
    size = sum(4 if _is_long_product(step) else 1 for step in work)
    return max(depth for depth, least in enumerate(_LEAST) if size >= least)


def _is_long_product(step: Working) -> bool:
    return isinstance(step, Operation) and step.symbol == "*" and min(step.left, step.right) >= 10


@dataclass(frozen=True)
class Question:
    """A question whose answer is one whole number or one word. `level` is 1 (easiest) to 5; `work` is its solution.

    `unseen` names what of it is never in the training data, whatever the split: its "template", a "name", its "length".
    `kind` is what is asked, in families that ask for things that do not compare: "passes", "order", "table".
    """

    family: str
    level: int
    prompt: str
    answer: int | str
    work: tuple[Working, ...] = ()
    unseen: tuple[str, ...] = ()
    kind: str = ""

    @property
    def split(self) -> Split:
        """Decided by the text of the question, so that no two splits ever share one."""
        return split_of(self.prompt)

    def grade(self, text: str) -> bool:
        """Whether the final number (or word) in `text`, the answer without the thought, is the right one."""
        return (final_number(text) if isinstance(self.answer, int) else final_word(text)) == self.answer


@dataclass(frozen=True)
class ToolSpec:
    """A tool as a model sees it; `parameters` is a JSON schema of type object, in LangChain's key order."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def to_openai(self) -> dict[str, Any]:
        """Return the form chat templates and LangChain's `bind_tools` take."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class TaskTool:
    """A tool with its implementation: keyword arguments in, the text of the result out."""

    spec: ToolSpec
    function: Callable[..., str] = field(repr=False, compare=False)

    def call(self, arguments: Mapping[str, Any]) -> str:
        """Run the tool. Wrong arguments give an error text, as a tool of an agent should, not an exception."""
        properties: Mapping[str, Mapping[str, Any]] = self.spec.parameters.get("properties", {})
        required = self.spec.parameters.get("required", ())
        unknown = [key for key in arguments if key not in properties]
        missing = [key for key in required if key not in arguments]
        if unknown or missing:
            return f"Error: wrong arguments for {self.spec.name}."
        return self.function(**arguments)


@dataclass(frozen=True)
class PlannedCall:
    """One call of the reference solution: what is worked out first, the call, and what the tool answers.

    `together` says that it is made in one turn with the call before it. A `result` that is an error is followed by the
    call that mends it.
    """

    name: str
    arguments: Mapping[str, Any]
    result: str
    work: tuple[Working, ...] = ()
    together: bool = False


@dataclass(frozen=True)
class AgentTask:
    """A task for an agent with tools.

    `kind` is `route` (calls and copying only), `work` (something must be worked out from what the tools say), `hard`
    (most steps route, one or two need long working) or `novel` (a tool never seen). `answers` are the expected final
    numbers in order; `plan` and `work` are the reference solution. `unseen` names what of it is never in the training
    data, as a question's does.
    """

    kind: Literal["route", "work", "hard", "novel"]
    name: str
    prompt: str
    tools: tuple[TaskTool, ...]
    plan: tuple[PlannedCall, ...]
    answers: tuple[str, ...]
    work: tuple[Working, ...] = ()
    reply: str = ""
    unseen: tuple[str, ...] = ()

    @property
    def split(self) -> Split:
        """Decided by the text of the prompt."""
        return split_of(self.prompt)

    @property
    def rounds(self) -> tuple[tuple[PlannedCall, ...], ...]:
        """The plan by model turns: calls made together stand together."""
        found: list[list[PlannedCall]] = []
        for call in self.plan:
            if call.together and found:
                found[-1].append(call)
            else:
                found.append([call])
        return tuple(tuple(group) for group in found)

    @property
    def steps(self) -> int:
        """Model calls of the reference solution: one per round of tool calls, and one for the answer."""
        return len(self.rounds) + 1

    @property
    def depths(self) -> tuple[int, ...]:
        """Return how much each model turn of the reference solution must work out (`depth_of`): 0 calls or copies."""
        before_calls = [[step for call in group for step in call.work] for group in self.rounds]
        return tuple(depth_of(work) for work in (*before_calls, self.work))

    def tool(self, name: str) -> TaskTool | None:
        """Return the bound tool of that name, if there is one."""
        return next((tool for tool in self.tools if tool.spec.name == name), None)

    def grade(self, text: str) -> bool:
        """Whether the final reply is right: numbers must be its last ones, words must stand in order and end it."""
        if all(_NUMBER.fullmatch(answer) for answer in self.answers):
            return tuple(_NUMBER.findall(text)[-len(self.answers) :]) == self.answers
        between = "(?!\\w).*?(?<!\\w)".join(re.escape(answer.rstrip(".")) for answer in self.answers)
        return re.search(rf"(?<!\w){between}[\s.!\"'*]*\Z", text, re.DOTALL) is not None


_REPEATS = 5_000
"""So many draws in a row without anything new mean that there is no more."""

_Asked = TypeVar("_Asked", Question, AgentTask)


def another(drawn: Iterator[_Asked], asked: Mapping[str, _Asked], whose: str, what: str) -> _Asked:
    """Return the next of `drawn` whose prompt is not among those `asked`.

    Args:
        drawn: draws, without end.
        asked: what was drawn before, by its prompt.
        whose: who has too few, for the error.
        what: of what there are too few, for the error.

    Raises:
        UsageError: there is none among thousands.
    """
    for item in islice(drawn, _REPEATS):
        if item.prompt not in asked:
            return item
    raise UsageError(
        f"{whose} has too few different {what}: after {len(asked)} all that come have been asked",
        hint="ask for fewer, or for more kinds",
    )
