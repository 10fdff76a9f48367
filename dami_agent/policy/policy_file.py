"""Read policy files and dicts into :class:`~dami_agent.policy.rules.PolicyFile`; errors name file, line and field."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dami_agent.errors import DamiError, InvalidPolicy
from dami_agent.policy.fields import close_match, shown
from dami_agent.policy.limits import DEEPEST, LARGEST_FILE, MOST_FINDINGS, MOST_VALUES
from dami_agent.policy.rules import PolicyFile, PolicyText
from dami_agent.policy.toml_text import read_toml
from dami_agent.policy.yaml_text import LineOf, read_yaml, too_large

Found = TypeVar("Found")
Read = TypeVar("Read", bound=PolicyFile)
Path_ = tuple["str | int", ...]
"""Where a value stands: keys and list places from the top."""

_READ_MORE = "the keys are " + ", ".join(PolicyText.model_fields)
_READERS = {".yaml": read_yaml, ".yml": read_yaml, ".toml": read_toml}


def read_file(path: str | Path) -> PolicyText:
    """Read a YAML (``.yaml``, ``.yml``) or TOML (``.toml``) policy.

    Raises:
        InvalidPolicy: naming file, line and field.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise InvalidPolicy(f"{path}: unknown kind of file {path.suffix!r}", hint="policies are .yaml, .yml or .toml")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:  # not there, not readable, not UTF-8, or no path at all
        raise InvalidPolicy(f"cannot read the policy {path}: {error}", hint="give the path of a policy file") from error
    if len(content) > LARGEST_FILE:
        raise too_large(path.name, f"more than {LARGEST_FILE // 1024} KiB")
    data, line_of = _guarded(path.name, lambda: reader(text, path.name))
    return _guarded(path.name, lambda: _validated(PolicyText, data, line_of, path.name))


def read_dict(data: Mapping[str, Any], source: str = "dict") -> PolicyText:
    """Validate a policy given as the parsed content of a file.

    Raises:
        InvalidPolicy: naming the field.
    """
    return _guarded(source, lambda: _validated(PolicyText, data, lambda _: None, source))


def read_fields(fields: Mapping[str, Any]) -> PolicyFile:
    """Validate a policy given as the fields of a :class:`~dami_agent.policy.ReasoningPolicy`.

    Raises:
        InvalidPolicy: naming the field.
    """
    source = "ReasoningPolicy"
    return _guarded(source, lambda: _validated(PolicyFile, fields, lambda _: None, source))


def _guarded(source: str, read: Callable[[], Found]) -> Found:
    """Return what ``read`` returns; whatever an untrusted policy makes it raise comes out as one error of ours."""
    try:
        return read()
    except DamiError:
        raise
    except Exception as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else shown(error)
        raise InvalidPolicy(f"{source}: cannot be read as a policy: {why}", hint=_READ_MORE) from error


def _validated(kind: type[Read], data: Any, line_of: LineOf, source: str) -> Read:
    if not isinstance(data, Mapping):
        raise InvalidPolicy(f"{source}: a policy is a mapping, not {type(data).__name__}", hint=_READ_MORE)
    _require_small(data, source)
    if isinstance(data.get("rules"), (list, tuple)):  # a nameless rule is called by its place
        named = [{"name": f"rule {n}", **r} if isinstance(r, Mapping) else r for n, r in enumerate(data["rules"], 1)]
        data = {**data, "rules": named}
    try:
        policy = kind.model_validate(data)
    except ValidationError as error:
        raise _refused(error, line_of, source) from None
    _check_together(policy, line_of, source)
    return policy


def _require_small(data: Any, source: str) -> None:
    """Refuse what is nested too deeply (a list that holds itself, for one) or has too many values."""
    level, count = [data], 0
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, Mapping):
                inner += each.values()
            elif isinstance(each, (list, tuple)):
                inner += each
        count += len(inner)
        if count > MOST_VALUES:
            raise too_large(source, "it has too many values")
        if not inner:
            return
        level = inner
    raise too_large(source, "it is nested too deeply")


def _check_together(policy: PolicyFile, line_of: LineOf, source: str) -> None:
    names = [rule.name for rule in policy.rules]
    for place, name in enumerate(names):
        if name in names[:place]:
            where = _where(("rules", place, "name"), line_of, source)
            raise InvalidPolicy(f"{where}: two rules are named {shown(name)}", hint="give each rule a name of its own")
    if policy.run.max_cost is not None and policy.run.price.is_free:
        where = _where(("run", "max_cost"), line_of, source)
        raise InvalidPolicy(f"{where}: max_cost without a price", hint="add price: {output: 0.6} (per million tokens)")
    if policy.cascade is not None and policy.self_consistency is not None:
        where = _where(("self_consistency",), line_of, source)
        raise InvalidPolicy(f"{where}: beside a cascade", hint="leave one of the two out")
    if policy.cascade is not None and policy.default.estimator is not None:
        where = _where(("default", "estimator"), line_of, source)
        raise InvalidPolicy(f"{where}: a cascade takes the estimator's place", hint="leave one of the two out")


def _where(path: Path_, line_of: LineOf, source: str) -> str:
    field = "".join(f"[{p}]" if isinstance(p, int) else f".{str(p)[:80]}" for p in path).lstrip(".")
    line = line_of(path)
    return f"{source}:{line}: {field}" if line else f"{source}: {field}"


def _refused(error: ValidationError, line_of: LineOf, source: str) -> InvalidPolicy:
    """Put all of pydantic's findings in our words, with the first one's hint."""
    lines, hint = [], None
    everything = error.errors(include_url=False, include_context=False, include_input=False)
    for found in everything[:MOST_FINDINGS]:
        path = tuple(found["loc"])
        message = str(found["msg"]).removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            message = f"unknown key {shown(path[-1])}"
            hint = hint or close_match(path[-1], _known_keys(path[:-1]))
        lines.append(f"{_where(path, line_of, source)}: {message}")
    if len(everything) > MOST_FINDINGS:
        lines.append(f"{source}: and {len(everything) - MOST_FINDINGS} more")
    return InvalidPolicy("\n".join(lines), hint=hint or "see dami_agent.policy.rules for what each field takes")


def _known_keys(path: Path_) -> list[str]:
    """List the keys that the model at ``path`` knows."""
    model: Any = PolicyText
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
