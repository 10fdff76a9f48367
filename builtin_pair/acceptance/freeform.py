"""Two hundred requests in people's own words, over their own tools: what the pair can do outside its phrases.

``freeform.json`` was written by somebody who had not seen the training templates: shops, garages, clinics, schools.
Every case runs in a real LangChain agent over its own tools, which answer what the case says. It counts as solved when
the run made every call that the case expects and no other, ended by itself with some words, and these end with the
expected value; texts are compared without case, a leading article or a full stop. Where no tool fits, the reply must
claim no result.

    python -m builtin_pair freeform                # solved by kind, at λ = auto, 0, .5 and 1
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dami_agent.errors import CheckpointError
from dami_agent.evaluation.runner import stream_seed
from dami_agent.evaluation.stats import half_width

_CLAIM = re.compile(r"\b(answer|result) is\b|\d", re.IGNORECASE)
"""What a reply that says that no tool fits does not hold."""

CASES = Path(__file__).with_name("freeform.json")
MOST_CALLS = 8
"""Model calls of one run before it is given up: the longest case needs three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Hold one request: its conversation, its tools, what these answer, and what is expected."""

    id: str
    kind: str
    messages: tuple[Mapping[str, str], ...]
    tools: tuple[Mapping[str, Any], ...]
    results: Mapping[str, Sequence[Mapping[str, Any]]]
    calls: tuple[Mapping[str, Any], ...]
    answer: str | None

    def result(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Return what a tool answers: the case's result for these arguments, else an error."""
        found = [each["result"] for each in self.results.get(name, ()) if same(each["arguments"], arguments)]
        return str(found[0]) if found else "Error: nothing found."

    def solved(self, calls: Sequence[tuple[str, Mapping[str, Any]]], reply: str) -> bool:
        """Return whether a run that made ``calls`` and ended with ``reply`` did what is expected."""
        wanted = [(str(each["name"]), each["arguments"]) for each in self.calls]
        missing = [each for each in wanted if not any(_equal(each, call) for call in calls)]
        more = [call for call in calls if not any(_equal(each, call) for each in wanted)]
        if missing or more or not reply.strip():
            return False
        if self.kind == "no_tool_fits":
            return _CLAIM.search(reply) is None
        return self.answer is None or ends_with(reply, self.answer)


def _equal(one: tuple[str, Mapping[str, Any]], other: tuple[str, Mapping[str, Any]]) -> bool:
    return one[0] == other[0] and same(one[1], other[1])


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two calls' arguments say the same; None counts as left out."""
    first, second = ({key: plain(value) for key, value in each.items() if value is not None} for each in (one, other))
    return first == second


def plain(value: Any) -> Any:
    """Return a value as it is compared: texts without case, a leading article, or spaces around them."""
    if isinstance(value, str):
        return re.sub(r"^(?:the|a|an) ", "", " ".join(value.lower().split())).rstrip(".")
    return [plain(each) for each in value] if isinstance(value, list) else value


def ends_with(reply: str, answer: str) -> bool:
    """Return whether the last number of a reply is the answer, or whether a word answer stands in its last sentence."""
    if re.fullmatch(r"-?\d+(\.\d+)?", answer):
        numbers = re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3}\b)", "", reply))
        return bool(numbers) and float(numbers[-1]) == float(answer)
    last = re.split(r"[.!?]\s+", reply.strip().lower())[-1]
    return re.search(rf"(?<!\w){re.escape(plain(answer))}(?!\w)", last) is not None


def cases() -> list[Case]:
    """Read all cases."""
    data = json.loads(CASES.read_text(encoding="utf-8"))
    return [
        Case(
            id=each["id"],
            kind=each["kind"],
            messages=tuple(each["messages"]),
            tools=tuple(each["tools"]),
            results=each["results"],
            calls=tuple(each["expected"]["calls"]),
            answer=each["expected"]["answer"],
        )
        for each in data["cases"]
    ]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Hold what became of one case: whether it was solved, its tokens, the calls made, the reply, the error if any."""

    case: Case
    solved: bool
    tokens: int
    calls: tuple[tuple[str, Mapping[str, Any]], ...]
    reply: str
    error: str | None = None


def run(
    case: Case, intensity: float | Literal["auto"], *, seed: int = 0, model: Mapping[str, Any] | None = None
) -> Outcome:
    """Run one case in an agent of its own.

    Args:
        case: the request.
        intensity: a number or ``"auto"``.
        seed: of the random stream.
        model: further arguments of ChatDAMI, such as the pair.
    """
    from langchain.agents import create_agent
    from langchain_core.messages import AIMessage
    from langchain_core.tools import StructuredTool

    from dami_agent import ChatDAMI

    made: list[tuple[str, Mapping[str, Any]]] = []

    def bound(spec: Mapping[str, Any]) -> Any:
        def call(**arguments: Any) -> str:
            made.append((str(spec["name"]), arguments))
            return "Noted." if case.kind == "extract" else case.result(str(spec["name"]), arguments)

        text = str(spec.get("description", ""))
        return StructuredTool(name=spec["name"], description=text, args_schema=dict(spec["parameters"]), func=call)

    chat = ChatDAMI(
        reasoning_intensity=intensity, seed=stream_seed("freeform", seed, case.id), ledger="off", **(model or {})
    )
    agent: Any = create_agent(chat, [bound(spec) for spec in case.tools])
    tokens, reply, error = 0, "", None
    try:
        state = agent.invoke({"messages": list(case.messages)}, {"recursion_limit": 2 * MOST_CALLS})
        said = state["messages"][len(case.messages) :]
        used = [each.usage_metadata for each in said if isinstance(each, AIMessage)]
        tokens = sum(usage["output_tokens"] for usage in used if usage)
        reply = str(said[-1].text)
    except CheckpointError:
        raise
    except Exception as failure:  # a measurement goes on; the case is unsolved
        error = f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"
    solved = error is None and case.solved(made, reply)
    return Outcome(case=case, solved=solved, tokens=tokens, calls=tuple(made), reply=reply, error=error)


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Count solved cases, by kind too; ``solved_ci`` is half a 95 % interval."""
    kinds = list(dict.fromkeys(each.case.kind for each in outcomes))
    solved = sum(each.solved for each in outcomes)
    return {
        "cases": len(outcomes),
        "solved": solved,
        "solved_ci": round(half_width(solved, len(outcomes)) * len(outcomes), 1),
        "tokens": sum(each.tokens for each in outcomes),
        "empty": sum(not each.reply.strip() and each.error is None for each in outcomes),
        "errors": sum(each.error is not None for each in outcomes),
        "by_kind": {
            kind: f"{sum(each.solved for each in outcomes if each.case.kind == kind)}/"
            f"{sum(each.case.kind == kind for each in outcomes)}"
            for kind in kinds
        },
    }
