"""Policy files and dicts, read into :class:`~dami_agent.policy.rules.PolicyFile`; errors name file, line and field."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from dami_agent.errors import InvalidPolicy
from dami_agent.policy.rules import PolicyFile, close_match

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Path_ = tuple["str | int", ...]
"""Where a value stands: keys and list places from the top."""

_READ_MORE = "the keys are name, accuracy_over_cost, challenge, default, tools, nodes, rules, run, escalation"


def read_file(path: str | Path) -> PolicyFile:
    """A YAML (``.yaml``, ``.yml``) or TOML (``.toml``) policy.

    Raises:
        InvalidPolicy: naming file, line and field.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPolicy(f"cannot read the policy {path}: {error}", hint="give the path of a policy file") from error
    if path.suffix in (".yaml", ".yml"):
        return _checked(*_read_yaml(text, path.name))
    if path.suffix == ".toml":
        return _checked(*_read_toml(text, path.name))
    raise InvalidPolicy(f"{path}: unknown kind of file {path.suffix!r}", hint="policies are .yaml, .yml or .toml")


def read_dict(data: Mapping[str, Any], source: str = "dict") -> PolicyFile:
    """A policy as a file's content would be parsed.

    Raises:
        InvalidPolicy: naming the field.
    """
    return _checked(data, lambda _: None, source)


def _checked(data: Any, line_of: Any, source: str) -> PolicyFile:
    if not isinstance(data, Mapping):
        raise InvalidPolicy(f"{source}: a policy is a mapping, not {type(data).__name__}", hint=_READ_MORE)
    if isinstance(data.get("rules"), (list, tuple)):  # a nameless rule is called by its place
        named = [{"name": f"rule {n}", **r} if isinstance(r, Mapping) else r for n, r in enumerate(data["rules"], 1)]
        data = {**data, "rules": named}
    try:
        policy = PolicyFile.model_validate(data)
    except ValidationError as error:
        raise _refused(error, line_of, source) from None
    _check_together(policy, line_of, source)
    return policy


def _check_together(policy: PolicyFile, line_of: Any, source: str) -> None:
    names = [rule.name for rule in policy.rules]
    for place, name in enumerate(names):
        if name in names[:place]:
            where = _where(("rules", place, "name"), line_of, source)
            raise InvalidPolicy(f"{where}: two rules are named {name!r}", hint="give each rule a name of its own")
    if policy.run.max_money is not None and policy.run.price.free:
        where = _where(("run", "max_money"), line_of, source)
        raise InvalidPolicy(f"{where}: money without a price", hint="add price: {output: 0.6} (per million tokens)")


def _where(path: Path_, line_of: Any, source: str) -> str:
    field = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
    line = line_of(path)
    return f"{source}:{line}: {field}" if line else f"{source}: {field}"


def _refused(error: ValidationError, line_of: Any, source: str) -> InvalidPolicy:
    """All of pydantic's findings in our words; the first one's hint."""
    lines, hint = [], None
    for found in error.errors(include_url=False):
        path = tuple(found["loc"])
        message = str(found["msg"]).removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            message = f"unknown key {path[-1]!r}"
            hint = hint or close_match(path[-1], _known_keys(path[:-1]))
        lines.append(f"{_where(path, line_of, source)}: {message}")
    return InvalidPolicy("\n".join(lines), hint=hint or "see dami_agent.policy.rules for what each field takes")


def _known_keys(path: Path_) -> list[str]:
    """The keys that the model at ``path`` knows."""
    model: Any = PolicyFile
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(part))
            model = field.annotation if field else None
        else:  # inside a mapping or tuple of models: its last argument that is one
            model = next((a for a in getattr(model, "__args__", ()) if _is_model(a)), None)
    if dataclasses.is_dataclass(model):
        return [field.name for field in dataclasses.fields(model)]
    return list(model.model_fields) if _is_model(model) else []


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


class _Yaml(yaml.SafeLoader):
    """YAML 1.2's booleans: ``on``, ``off``, ``yes`` and ``no`` are words (a key of ours, and names of tools)."""


_Yaml.yaml_implicit_resolvers = {
    letter: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:bool"]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))


def _read_yaml(text: str, source: str) -> tuple[Any, Any, str]:
    loader = _Yaml(text)
    try:
        node = loader.get_single_node()
        _refuse_twice(node, source)
        data = {} if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise InvalidPolicy(
            f"{where}: no YAML: {getattr(error, 'problem', None) or error}", hint="check indentation and quotes"
        ) from error
    finally:
        loader.dispose()
    return data, lambda path: _yaml_line(node, path), source


def _refuse_twice(node: Any, source: str) -> None:
    """PyYAML lets the last of two equal keys win in silence; a budget must not be lost that way."""
    if isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, value in node.value:
            if key.value in seen:
                raise InvalidPolicy(
                    f"{source}:{key.start_mark.line + 1}: the key {key.value!r} comes twice", hint="keep one of them"
                )
            seen.add(key.value)
            _refuse_twice(value, source)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice(item, source)


def _yaml_line(node: Any, path: Path_) -> int | None:
    """The line of the key or item at ``path``, or of the innermost part of the way that is there."""
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


def _read_toml(text: str, source: str) -> tuple[Any, Any, str]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{source}:{line.group(1)}" if line else source
        raise InvalidPolicy(f"{where}: no TOML: {error}", hint="check quotes and brackets") from error
    return data, lambda path: _toml_line(text, path), source


_CLOSERS = ("", "]", "]]")
"""What ends an array that goes on in the next lines; inline tables do not."""


def _toml_line(text: str, path: Path_) -> int | None:
    """The line where the value at ``path`` begins, or the innermost part of the way that is there; tomllib tells none.

    It is the first line with which the text up to there has the value, or, of a value over several lines, the line
    after the last one at which the text could end.
    """
    lines = text.splitlines(keepends=True)
    found, begins, deepest = None, 1, 0
    for end in range(1, len(lines) + 1):
        data = next((d for d in (_parsed("".join(lines[:end]) + closer) for closer in _CLOSERS) if d is not None), None)
        if data is None:
            continue
        depth = _reached(data, path)
        if depth > deepest:
            deepest, found = depth, begins
        begins = end + 1
        while begins <= len(lines) and lines[begins - 1].lstrip()[:1] in ("", "#"):
            begins += 1
    return found


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _reached(data: Any, path: Path_) -> int:
    """How much of the way is there."""
    depth = 0
    try:
        for part in path:
            data = data[part]
            depth += 1
    except (KeyError, IndexError, TypeError):
        pass
    return depth
