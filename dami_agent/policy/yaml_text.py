"""Read the YAML of a policy, with the line of every value, in the words of YAML 1.2.

PyYAML speaks YAML 1.1: there ``010`` is 8, ``1:30`` is 90, ``on`` is true and ``2026-01-01`` is a date. In a policy
these are 10 and three texts. What is nested without end, grows when aliases are written out, or comes twice is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

from dami_agent.errors import InvalidPolicy
from dami_agent.policy.limits import DEEPEST, MOST_VALUES

LineOf = Callable[[tuple["str | int", ...]], "int | None"]
"""The line where the value at a path of keys and list places stands."""

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, ten times as fast, where libyaml is there

_RESOLVERS = (
    ("bool", r"true|True|false|False", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
)


class _Loader(_Base):  # type: ignore[misc]
    """Loads the numbers and booleans of YAML 1.2."""

    def construct_policy_int(self, node: Any) -> int:
        text = str(self.construct_scalar(node)).replace("_", "").lower()
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))

    def construct_policy_float(self, node: Any) -> float:
        text = str(self.construct_scalar(node)).replace("_", "").lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_replaced = {f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "timestamp")}
_Loader.yaml_implicit_resolvers = {
    letter: [pair for pair in pairs if pair[0] not in _replaced]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _expression, _letters in _RESOLVERS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_expression})$"), list(_letters))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_policy_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_policy_float)


def read_yaml(text: str, source: str) -> tuple[Any, LineOf]:
    """Read the content of a YAML text and where each of its values stands.

    Raises:
        InvalidPolicy: naming file and line.
    """
    try:
        _require_shallow(text, source)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            _Written(source).out(node)
            data = {} if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        problem = str(getattr(error, "problem", None) or error)
        raise InvalidPolicy(f"{where}: invalid YAML: {problem[:200]}", hint="check indentation and quotes") from error
    return data, lambda path: _line(node, path)


def _require_shallow(text: str, source: str) -> None:
    """Refuse what is nested too deeply before anything is built of it."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Base)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or count > MOST_VALUES:
            line = event.start_mark.line + 1 if event.start_mark is not None else 1
            raise too_large(f"{source}:{line}", "it is nested too deeply" if depth > DEEPEST else "it is too long")


def too_large(where: str, why: str) -> InvalidPolicy:
    """Make the error for what nobody writes by hand."""
    return InvalidPolicy(
        f"{where}: this is too large for a policy: {why}",
        hint=f"at most {DEEPEST} levels and {MOST_VALUES} values, with aliases written out",
    )


class _Written:
    """Counts what a node holds once its aliases are written out; refuses cycles and keys that come twice."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._sizes: dict[int, tuple[int, int]] = {}  # of a node: values, levels
        self._open: set[int] = set()

    def out(self, node: Any) -> tuple[int, int]:
        """Count how many values and levels the node has.

        Raises:
            InvalidPolicy: too many, an alias that holds itself, or a key that is given twice.
        """
        if node is None or isinstance(node, yaml.ScalarNode):
            return 1, 1
        known = self._sizes.get(id(node))
        if known is not None:
            return known
        where = f"{self._source}:{node.start_mark.line + 1}"
        if id(node) in self._open:
            raise InvalidPolicy(f"{where}: an alias refers to the value that contains it", hint="write the value out")
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._refuse_twice(node)
        parts = [each for pair in node.value for each in pair] if isinstance(node, yaml.MappingNode) else node.value
        sizes = [self.out(part) for part in parts]
        self._open.discard(id(node))
        values, levels = 1 + sum(size for size, _ in sizes), 1 + max((deep for _, deep in sizes), default=0)
        if levels > DEEPEST or values > MOST_VALUES:
            raise too_large(where, "its aliases make it so")
        self._sizes[id(node)] = (values, levels)
        return values, levels

    def _refuse_twice(self, node: Any) -> None:
        """Refuse equal keys, of which PyYAML lets the last win: a budget must not be lost that way."""
        seen: set[str] = set()
        for key, _ in node.value:
            where = f"{self._source}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise InvalidPolicy(f"{where}: a key must be a string", hint="quote it")
            if key.value in seen:
                raise InvalidPolicy(f"{where}: the key {key.value[:80]!r} is given twice", hint="keep one of them")
            seen.add(key.value)


def _line(node: Any, path: tuple[str | int, ...]) -> int | None:
    """Find the line of the key or item at ``path``, or of the innermost part of the way that is there."""
    line = None if node is None else node.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            key, node = found
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return int(line) if line is not None else None
