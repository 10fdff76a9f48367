"""Give up single keywords of a schema where llguidance refuses it as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dami_agent.dialogue.json_schema.keywords import all_subschemas, subschemas
from dami_agent.dialogue.json_schema.preparation import REAL, Unenforced

__all__ = ["LAYOUT", "Fitting"]

LAYOUT = {"item_separator": ", ?", "key_separator": ": ?", "whitespace_flexible": False, "coerce_one_of": True}
"""One space at most after a comma or a colon, none elsewhere: no white space can fill a budget."""
_SUSPECTS = (
    *("format", "minLength", "maxLength", "multipleOf", "minProperties", "maxProperties", "pattern", "minimum"),
    *("maximum", "exclusiveMinimum", "exclusiveMaximum", "allOf", "oneOf", "anyOf", "patternProperties", "enum"),
    *("const", "minItems", "maxItems", "prefixItems", "items", "additionalProperties", "required", "properties"),
    *("$ref", "type"),
)
"""In which order keywords are given up where a subschema as a whole is too much for llguidance."""
_TRIES = 300


class Fitting:
    """Gives up single keywords where llguidance refuses a subschema as a whole, the fewest and deepest it can."""

    def __init__(self, root: dict[str, Any], unenforced: list[Unenforced]) -> None:
        self._root = root
        self._unenforced = unenforced
        self._tries = 0

    def run(self) -> tuple[dict[str, Any], str]:
        """Return a schema that compiles, and why nothing can satisfy it ("" if something can)."""
        error, remarks = self._compile(self._root)
        while error:
            if "nsatisfiable schema" in error and not self._only_by_format(error):
                return self._root, error.split("nsatisfiable schema: ", 1)[-1].split("\n")[0][:200]
            place = self._broken(self._root, "#")
            if place is None or self._tries > _TRIES:
                self._unenforced.append(Unenforced("#", "*"))
                return {"type": "object"} if self._root.get("type") == "object" else {}, ""
            self._mend(*place)
            error, remarks = self._compile(self._root)
        if any("oneOf" in remark for remark in remarks):
            self._note_one_of()
        return self._root, ""

    def _only_by_format(self, error: str) -> bool:
        """Return whether a format is what makes it impossible: JSON Schema does not assert formats, so it gives way."""
        bare = json.loads(json.dumps(self._root))
        formats = [node for _, node in all_subschemas(bare) if isinstance(node.get("format"), str)]
        for node in formats:
            format_ = node.pop("format")  # type: ignore[attr-defined]
            if format_ in REAL and node.get("pattern") == REAL[format_]:
                node.pop("pattern")  # type: ignore[attr-defined]
        if not formats or self._error(bare):
            return False
        self._unenforced += [
            Unenforced(path, "format") for path, node in all_subschemas(self._root) if "format" in node
        ]
        self._root = bare
        return True

    def _compile(self, schema: Any) -> tuple[str, list[str]]:
        self._tries += 1
        return compile_schema(schema)

    def _error(self, schema: Any) -> str:
        return self._compile(schema)[0]

    def _broken(self, node: Any, path: str) -> tuple[dict[str, Any], str] | None:
        """Return the deepest subschema that does not compile although its own subschemas do."""
        if not isinstance(node, dict) or self._tries > _TRIES:
            return None
        whole = {**node, "$defs": self._root.get("$defs", {})}
        error = self._error(whole)
        if not error or "nsatisfiable schema" in error:
            return None
        for where, child in _children(node, path):
            found = self._broken(child, where)
            if found is not None:
                return found
        return node, path

    def _mend(self, node: dict[str, Any], path: str) -> None:
        """Take out of ``node``, in place, one keyword after the other until it compiles."""
        rest = self._root.get("$defs", {})
        present = [k for k in _SUSPECTS if k in node]
        alone = next((k for k in present if not self._error({**_without(node, k), "$defs": rest})), None)
        for keyword in [alone] if alone else present:
            kept = _without(node, keyword)
            node.clear()
            node.update(kept)
            self._unenforced.append(Unenforced(path, keyword))
            if not self._error({**node, "$defs": rest}):
                return

    def _note_one_of(self) -> None:
        """Note where llguidance takes ``oneOf`` for ``anyOf``, because it cannot tell the members apart."""
        for path, node in all_subschemas(self._root):
            if "oneOf" in node and compile_schema({**node, "$defs": self._root.get("$defs", {})})[1]:
                self._unenforced.append(Unenforced(path, "oneOf"))


def _children(node: Mapping[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    return [(where, sub) for where, sub in subschemas(node, path) if isinstance(sub, dict)]


def _without(node: Mapping[str, Any], keyword: str) -> dict[str, Any]:
    """Return ``node`` without a keyword, and without what means something else when that is gone."""
    gone = {keyword}
    if keyword == "format" and node.get("pattern") in REAL.values():
        gone.add("pattern")
    if keyword in ("properties", "patternProperties"):
        gone |= {"additionalProperties", "required" if keyword == "properties" else keyword}
    if keyword == "prefixItems":
        gone.add("items")
    return {k: v for k, v in node.items() if k not in gone}


def compile_schema(schema: Any) -> tuple[str, list[str]]:
    """Compile a schema; return llguidance's error ("" if there is none) and its warnings."""
    from llguidance import LLMatcher

    text = f"start: %json {json.dumps({**schema, 'x-guidance': LAYOUT})}"
    try:
        failed, messages = LLMatcher.validate_grammar_with_warnings(text)
    except Exception as error:
        return f"{type(error).__name__}: {error}", []
    return (messages[0] if failed else ""), ([] if failed else messages)
