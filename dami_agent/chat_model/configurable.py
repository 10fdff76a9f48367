"""Keep ``configurable_fields`` alive through ``bind_tools`` and ``with_structured_output``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import Runnable
from langchain_core.runnables.configurable import RunnableConfigurableFields

from dami_agent.chat_model import structured
from dami_agent.chat_model.configured import ConfiguredChatModel
from dami_agent.chat_model.langchain_errors import langchain_errors
from dami_agent.chat_model.tool_binding import bind_tools_of
from dami_agent.errors import InvalidRequest


class ConfigurableChatDAMI(RunnableConfigurableFields):  # type: ignore[type-arg]  # pydantic would reparametrise
    """A ChatDAMI some of whose fields are set by ``config={"configurable": …}``.

    LangChain's class forwards unknown methods to its default model, which forgets the configuration.
    """

    @classmethod
    def of(cls, model: ConfiguredChatModel, fields: dict[str, Any]) -> ConfigurableChatDAMI:
        """Check the names, then wrap.

        Raises:
            InvalidRequest: a field the model does not have.
        """
        unknown = sorted(set(fields) - set(type(model).model_fields))
        if unknown:
            raise InvalidRequest(f"ChatDAMI has no field {', '.join(unknown)}")
        return cls(default=model, fields=fields)

    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: Any = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[Any, Any]:
        """Bind tools as ``ChatDAMI.bind_tools`` does; the configuration still applies."""
        return bind_tools_of(self, tools, tool_choice, parallel_tool_calls, kwargs)

    @langchain_errors()
    def with_structured_output(
        self,
        schema: Any = None,
        *,
        method: structured.Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[Any, Any]:
        """Bind a schema as ``ChatDAMI.with_structured_output`` does; the configuration still applies."""
        model: Runnable[Any, Any] = self.bind(**kwargs) if kwargs else self
        return structured.structured_output(model, schema, method=method, include_raw=include_raw, strict=strict)
