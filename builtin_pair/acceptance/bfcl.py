"""Requests of the Berkeley Function-Calling Leaderboard, over strangers' tools, graded by its own checker.

The pair is trained on none of them. Every item is one request with one or more functions, and is asked once through
``ChatDAMI(...).bind_tools(...)``; what is called is graded by the ``ast_checker`` of ``bfcl-eval`` as it stands. Their
functions become tools as their handlers for OpenAI-style models make them: types by their own mapping, and a dot in a
name becomes an underscore, which is undone before grading.

    pip install --no-deps bfcl-eval                # its dependencies are every vendor's SDK, and none is needed here
    python -m builtin_pair bfcl                    # valid by category, at λ = 0, .5 and 1
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

from dami_agent.errors import UsageError
from dami_agent.evaluation.runner import stream_seed
from dami_agent.evaluation.stats import half_width, mean

CATEGORIES = ("simple_python", "multiple", "parallel", "parallel_multiple")
"""One call of the one function; of one among several; several calls of the one function; of several functions."""
MOST_TOKENS = 1024
"""Tokens of one reply, thought included: its longest reference answer takes 426 of the built-in pair's."""
_MODEL_CONFIG = "bfcl_eval.constants.model_config"
_MODEL = "dami"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Hold one request: its messages, its functions as the benchmark writes them, and the calls it accepts.

    Attributes:
        answers: for each call that must be made, ``{function: {parameter: [accepted values]}}``; a ``""`` among the
            values says that the parameter may be left out.
    """

    id: str
    category: str
    messages: tuple[Mapping[str, str], ...]
    functions: tuple[Mapping[str, Any], ...]
    answers: tuple[Mapping[str, Mapping[str, Sequence[Any]]], ...]

    @property
    def tools(self) -> list[dict[str, Any]]:
        """Return its functions as OpenAI-style tools."""
        return [
            {
                "type": "function",
                "function": {
                    "name": tool_name(each["name"]),
                    "description": each["description"],
                    "parameters": schema({**each["parameters"], "type": "dict"}),
                },
            }
            for each in self.functions
        ]

    def named(self, name: str) -> str:
        """Return the function's own name for a tool's name."""
        return next((each["name"] for each in self.functions if tool_name(each["name"]) == name), name)

    @property
    def wanted(self) -> list[str]:
        """Return the names of the functions that must be called, one for each call."""
        return [name for answer in self.answers for name in answer]


def tool_name(name: str) -> str:
    """Return a function's name as OpenAI-style tools allow it."""
    return name.replace(".", "_")


def schema(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON schema for the benchmark's own description of parameters; what has no type is a string."""
    types: Mapping[str, str] = _module("bfcl_eval.constants.type_mappings").GORILLA_TO_OPENAPI
    made: dict[str, Any] = {**node, "type": types.get(node.get("type", ""), "string")}
    if "properties" in node:
        made["properties"] = {name: _property(each) for name, each in node["properties"].items()}
    if "items" in node:
        made["items"] = schema(node["items"])
    return made


def _property(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of one parameter; that it is a float is told as the benchmark tells it."""
    made = schema(node)
    if node.get("type") == "float":
        made |= {"format": "float", "description": f"{node.get('description', '')} This is a float type value."}
    return made


def package() -> Path:
    """Return the folder of the installed ``bfcl_eval``.

    Raises:
        UsageError: it is not installed.
    """
    found = importlib.util.find_spec("bfcl_eval")
    if found is None or not found.submodule_search_locations:
        raise UsageError("bfcl-eval is not installed", hint="pip install --no-deps bfcl-eval")
    return Path(found.submodule_search_locations[0])


def items(category: str) -> list[Item]:
    """Read all items of a category.

    Raises:
        UsageError: ``bfcl-eval`` is not installed, or has no such items.
    """
    folder = package() / "data"
    name = f"BFCL_v4_{category}.json"
    answers = {each["id"]: each["ground_truth"] for each in _lines(folder / "possible_answer" / name)}
    return [
        Item(
            id=each["id"],
            category=category,
            messages=tuple(each["question"][0]),
            functions=tuple(each["function"]),
            answers=tuple(answers[each["id"]]),
        )
        for each in _lines(folder / name)
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except OSError as error:
        raise UsageError(
            f"this bfcl-eval has no {path.name}: {error}", hint="pip install --no-deps bfcl-eval==2026.3.23"
        ) from error


def spread(count: int) -> list[Item]:
    """Choose ``count`` items, as many of each category, evenly spread over each."""
    chosen: list[Item] = []
    for place, category in enumerate(CATEGORIES):
        found = items(category)
        wanted = min(len(found), count // len(CATEGORIES) + (place < count % len(CATEGORIES)))
        chosen += [found[n * len(found) // wanted] for n in range(wanted)]
    return chosen


def _module(name: str) -> ModuleType:
    package()
    return importlib.import_module(name)


@cache
def _checker() -> Any:
    """Import the benchmark's checker; the table of models that it looks a name up in would import every vendor's SDK.

    A stand-in answers for that table, during the import alone: names of functions are compared as they are.
    """
    stub: Any = ModuleType(_MODEL_CONFIG)
    stub.MODEL_CONFIG_MAPPING = {_MODEL: SimpleNamespace(underscore_to_dot=False)}
    package()
    before = sys.modules.get(_MODEL_CONFIG)
    sys.modules[_MODEL_CONFIG] = stub
    try:
        return importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker").ast_checker
    finally:
        del sys.modules[_MODEL_CONFIG]
        if before is not None:
            sys.modules[_MODEL_CONFIG] = before


Call = tuple[str, Mapping[str, Any]]
"""The function's own name, and the arguments."""


def fault(item: Item, calls: Sequence[Call]) -> str:
    """Return what the benchmark's checker finds wrong with the calls made for an item; "" if it finds nothing."""
    language = _module("bfcl_eval.constants.enums").Language.PYTHON
    made = [{name: dict(arguments)} for name, arguments in calls]
    try:
        found = _checker()(list(item.functions), made, list(item.answers), language, item.category, _MODEL)
    except Exception as error:  # it indexes into values whose shape it does not look at first
        return f"checker: {type(error).__name__}: {error}"
    return "" if found["valid"] else str(found.get("error_type") or "invalid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Hold what became of one item: the calls made, what is wrong with them, the tokens, and an error's class.

    Attributes:
        unreadable: calls that were cut off or cannot be read.
    """

    item: Item
    fault: str
    calls: tuple[Call, ...] = ()
    tokens: int = 0
    unreadable: int = 0
    error: str = ""

    @property
    def named(self) -> bool:
        """Return whether the right functions were called, each as often as it should be, whatever the arguments."""
        return Counter(name for name, _ in self.calls) == Counter(self.item.wanted)


def run(
    item: Item, intensity: float | Literal["auto"], *, seed: int = 0, model: Mapping[str, Any] | None = None
) -> Outcome:
    """Ask one item.

    Args:
        item: the request.
        intensity: a number or ``"auto"``.
        seed: of the random stream.
        model: further arguments of ChatDAMI, such as the pair.
    """
    from dami_agent import ChatDAMI

    given = {"max_tokens": MOST_TOKENS, "ledger": "off", **(model or {})}
    chat = ChatDAMI(reasoning_intensity=intensity, seed=stream_seed("bfcl", seed, item.id), **given)
    messages: Any = list(item.messages)
    try:
        said = chat.bind_tools(item.tools).invoke(messages)
    except Exception as error:  # a measurement goes on; the item is not valid
        return Outcome(item=item, fault="error", error=type(error).__name__)
    calls = tuple((item.named(each["name"]), each["args"]) for each in said.tool_calls)
    return Outcome(
        item=item,
        fault=fault(item, calls),
        calls=calls,
        tokens=said.usage_metadata["output_tokens"] if said.usage_metadata else 0,
        unreadable=len(said.invalid_tool_calls),
    )


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Sum up the outcomes of one λ, over all and by category; ``faults`` are the checker's own names of them."""
    by_category = {
        name: _summary([each for each in outcomes if each.item.category == name])
        for name in dict.fromkeys(each.item.category for each in outcomes)
    }
    faults = Counter(each.fault for each in outcomes if each.fault)
    return {**_summary(outcomes), "by_category": by_category, "faults": dict(faults.most_common())}


def _summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return shares of all items, ``…_ci`` half a 95 % interval of one, and the mean tokens of those answered."""
    n = len(outcomes)
    valid, named = sum(not each.fault for each in outcomes), sum(each.named for each in outcomes)
    return {
        "items": n,
        "valid": round(valid / n, 4),
        "valid_ci": round(half_width(valid, n), 4),
        "name": round(named / n, 4),
        "name_ci": round(half_width(named, n), 4),
        "tokens": round(mean([each.tokens for each in outcomes if not each.error]), 1),
        "unreadable": sum(each.unreadable > 0 for each in outcomes),
        "errors": dict(Counter(each.error for each in outcomes if each.error)),
    }
