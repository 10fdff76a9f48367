"""Stream the objects of ``with_structured_output``, which grow while the model writes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.utils.json import parse_partial_json

from dami_agent.chat_model.streaming import PARTIAL_CALL

_NOTHING = object()


def partial_json(text: str) -> Any:
    """Read what is written of a JSON object or array so far, or None."""
    try:
        value = parse_partial_json(text.strip())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (dict, list)) else None


def partial_arguments(call: str) -> Any:
    """Return the arguments in what is written of a tool call so far, or None."""
    value = partial_json(call)
    return value.get("arguments") if isinstance(value, dict) else None


class StructuredOutputParser(RunnableLambda[AIMessage, Any]):
    """Turns a message into an object, and a stream of chunks into a stream of objects, each more complete.

    The last object is the checked one; what fails the check raises, as it does without streaming. A pydantic object
    appears when what is written so far validates.

    Args:
        finish: makes the object of the whole message; raises ``OutputError``.
        partial: makes one of what is written so far (text of the answer, text of the call), or None.
        include_raw: objects are ``{"raw", "parsed", "parsing_error"}``.
    """

    def __init__(
        self, finish: Callable[[AIMessage], Any], partial: Callable[[str, str], Any], include_raw: bool
    ) -> None:
        super().__init__(finish, name="StructuredOutputParser")
        self._finish = finish
        self._partial = partial
        self._include_raw = include_raw

    def transform(
        self, input: Iterator[AIMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Yield objects while the chunks come."""
        yield from self._transform_stream_with_config(input, self._objects, config, **kwargs)

    async def atransform(
        self, input: AsyncIterator[AIMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Yield objects while the chunks come."""
        async for value in self._atransform_stream_with_config(input, self._aobjects, config, **kwargs):
            yield value

    def _objects(self, chunks: Iterator[AIMessage]) -> Iterator[Any]:
        growing = _Growing(self._partial, self._include_raw)
        for chunk in chunks:
            yield from growing.feed(chunk)
        yield from growing.end(self._finish)

    async def _aobjects(self, chunks: AsyncIterator[AIMessage]) -> AsyncIterator[Any]:
        growing = _Growing(self._partial, self._include_raw)
        async for chunk in chunks:
            for value in growing.feed(chunk):
                yield value
        for value in growing.end(self._finish):
            yield value


class _Growing:
    """The message so far, and the object that was shown last."""

    def __init__(self, partial: Callable[[str, str], Any], include_raw: bool) -> None:
        self._partial = partial
        self._include_raw = include_raw
        self._whole: Any = None
        self._shown: Any = _NOTHING

    def feed(self, chunk: AIMessage) -> Iterator[Any]:
        self._whole = chunk if self._whole is None else self._whole + chunk
        call: Any = getattr(chunk, PARTIAL_CALL, "")
        if not (chunk.text or call):
            return
        value = self._partial(str(self._whole.text), call)
        if value is not None and value != self._shown:
            self._shown = value
            yield {"raw": self._whole, "parsed": value, "parsing_error": None} if self._include_raw else value

    def end(self, finish: Callable[[AIMessage], Any]) -> Iterator[Any]:
        if self._whole is None:
            return
        value = finish(self._whole)
        if self._include_raw or value != self._shown:
            yield value
