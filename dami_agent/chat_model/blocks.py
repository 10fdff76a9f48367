"""Read the content blocks that any chat model writes: text, thoughts, calls, and what a model of text cannot see.

OpenAI's (chat and responses), Anthropic's, Google's, Mistral's and Bedrock's blocks, and LangChain's own (v0 and v1).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dami_agent.errors import InvalidRequest

_TEXT: Mapping[str, str] = {
    "text": "text",
    "text-plain": "text",
    "input_text": "text",
    "output_text": "text",
    "summary_text": "text",
    "refusal": "refusal",
}
"""Blocks of text, and the key their text stands under."""

_THOUGHTS = frozenset({"reasoning", "thinking", "redacted_thinking", "reasoning_content"})
_SEARCHED = frozenset({"search_result", "document"})
_SILENT = frozenset(
    {
        "cachePoint",
        "cache_point",
        "citation",
        "code_execution_result",
        "compaction",
        "executable_code",
        "function_call_signature",
        "input_json_delta",
        "mcp_approval_request",
        "mcp_list_tools",
        "reference",
        "tool_search_output",
    }
)
"""Blocks without a word of the conversation: signatures, marks for a cache, tools that a provider ran itself."""

_CALLS = ("_call", "_call_chunk", "_tool_use", "_tool_result", "_call_output")
_MEDIA = ("image", "audio", "video", "file", "media", "document", "container_upload")


def kind_of(block: Mapping[str, Any]) -> str:
    """Return a block's type; of one without a type, its first key (as Bedrock and Google write them)."""
    kind = block.get("type")
    return kind if isinstance(kind, str) else str(next(iter(block), "empty"))


def is_call(kind: str) -> bool:
    """Return whether blocks of this type are calls or results of tools: the model's own, or a provider's."""
    return kind in ("tool_use", "tool_call", "tool_call_chunk", "tool_result") or kind.endswith(_CALLS)


def blocks_of(content: Any, kinds: frozenset[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the blocks of these types in a message's content."""
    for block in content if isinstance(content, list) else ():
        if isinstance(block, Mapping) and kind_of(block) in kinds:
            yield block


def text_of(content: Any, place: int, *, asked: bool = False) -> str:
    """Return all text of a message's content.

    Thoughts and calls are kept elsewhere and are left out here; what a model of text cannot see becomes a placeholder
    such as ``[image]``. Neighbouring blocks that no space parts are put on lines of their own: 12 and 34 are not 1234.

    Args:
        content: text, or a list of blocks.
        place: the message's, for errors.
        asked: a person's (or the system's) words: nothing in them may be passed over.

    Raises:
        InvalidRequest: a block that a person sent and this model cannot read.
    """
    if isinstance(content, str):
        return content
    parts: list[str] = []
    for block in content if isinstance(content, Sequence) else [content]:
        part = block if isinstance(block, str) else _one(block, place, asked)
        if part and parts and not (parts[-1][-1].isspace() or part[0].isspace()):
            parts.append("\n")
        if part:
            parts.append(part)
    return "".join(parts)


def thought_of(content: Any) -> str:
    """Return the text of all thoughts among the blocks; a redacted one has none."""
    return "".join(_thought(block) for block in blocks_of(content, _THOUGHTS))


def _thought(block: Mapping[str, Any]) -> str:
    for key in ("reasoning", "thinking", "text", "reasoning_content", "summary"):
        value = block.get(key)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list):  # Mistral's thinking, OpenAI's summary
            return "\n\n".join(str(each.get("text", "")) for each in value if isinstance(each, Mapping))
        if isinstance(value, Mapping):  # Bedrock's
            return str(value.get("text", ""))
    return ""


def _one(block: Any, place: int, asked: bool) -> str:
    if not isinstance(block, Mapping):
        return "" if block is None else str(block)
    kind = kind_of(block)
    if kind == "non_standard":
        inner = block.get("value")
        known = isinstance(inner, Mapping) and isinstance(inner.get("type"), str)
        return _one(inner, place, asked) if known else _json(inner)
    if kind in _TEXT:
        text = block.get(_TEXT[kind])
        return text if isinstance(text, str) else "" if text is None else str(text)
    if kind == "json":
        return _json(block.get("json"))
    if kind == "tool_result":
        return text_of(block.get("content") or "", place)
    if kind in _THOUGHTS or kind in _SILENT or is_call(kind):
        return ""
    text = _text_inside(block, kind, place, asked)
    if text is not None:
        return text
    if asked:
        hint = "describe it in words" if kind.removeprefix("input_").startswith(_MEDIA) else None
        raise InvalidRequest(
            f"message {place} has a content block of type {kind!r}",
            hint="this model reads text only" + (f": {hint}" if hint else ""),
        )
    return _placeholder(block, kind)


def _text_inside(block: Mapping[str, Any], kind: str, place: int, asked: bool) -> str | None:
    """Return the text of a document, a search result, a transcript or another block with words; None without."""
    source = block.get("source")
    if kind == "document" and isinstance(source, Mapping) and source.get("type") in ("text", "content"):
        body: Any = source.get("data") or source.get("content") or ""
        return _titled(block, text_of(body, place, asked=asked))
    if kind == "search_result" and isinstance(block.get("content"), (list, str)):
        return _titled(block, text_of(block["content"], place, asked=asked))
    for key in ("text", "transcript"):
        if isinstance(block.get(key), str) and kind not in _SEARCHED:
            return str(block[key])
    inner = block.get("audio")
    if isinstance(inner, Mapping) and isinstance(inner.get("transcript"), str):
        return str(inner["transcript"])
    return None


def _titled(block: Mapping[str, Any], text: str) -> str:
    title = block.get("title")
    return f"{title}\n{text}" if isinstance(title, str) and title else text


def _placeholder(block: Mapping[str, Any], kind: str) -> str:
    """Return what stands for a block that cannot be read: its type, and the file's name."""
    inner = block.get(kind)
    inside = [block, *([inner] if isinstance(inner, Mapping) else [])]
    names = [each.get(key) for each in inside for key in ("filename", "file_name", "name", "title")]
    name = next((name for name in names if isinstance(name, str) and name), "")
    shown = kind.removeprefix("input_").removesuffix("_url")
    return f"[{shown}: {name}]" if name else f"[{shown}]"


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
