"""Token counts by the pair's own tokenizer and chat template; neither weights nor the network are needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage

from dami_agent.chat_model import request
from dami_agent.chat_model.history import to_messages
from dami_agent.chat_model.langchain_errors import langchain_errors
from dami_agent.errors import InvalidRequest
from dami_agent.types import Message, Step, Template, Tool

if TYPE_CHECKING:
    from dami_agent.dialogue import Dialogue


class CountingChatModel(BaseChatModel):
    """A chat model that counts tokens as it will read them."""

    def _counting_dialogue(self) -> tuple[Dialogue, Template]:
        """Return the pair's dialogue, and the template that most calls of this model use."""
        raise NotImplementedError

    @langchain_errors()
    def get_token_ids(self, text: str) -> list[int]:
        """Return the token ids of ``text`` as it stands in a prompt: no control token comes out of it."""
        return self._counting_dialogue()[0].encode(text)

    def get_num_tokens(self, text: str) -> int:
        """Return the number of tokens of ``text``, by the pair's own tokenizer."""
        return len(self.get_token_ids(text))

    @langchain_errors()
    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any] | type | Callable[..., Any]] | None = None
    ) -> int:
        """Return the number of tokens of the prompt that a call with ``messages`` and ``tools`` sends.

        It is ``usage_metadata["input_tokens"]`` of that call, up to the few tokens in which the templates of the two
        checkpoints differ. A part of a conversation that the template cannot render by itself, such as
        ``trim_messages`` asks for, is counted message by message.

        Args:
            messages: of the conversation; no messages have no tokens.
            tools: anything ``bind_tools`` takes.
        """
        if not messages:
            return 0
        dialogue, template = self._counting_dialogue()
        bound = request.tools(tools)
        try:
            return dialogue.count(Step(messages=to_messages(messages), tools=bound), template)
        except InvalidRequest:
            return sum(_alone(dialogue, template, message) for message in messages) + _of_tools(dialogue, bound)


def _alone(dialogue: Dialogue, template: Template, message: BaseMessage) -> int:
    """Count the tokens of one message in a turn of its own."""
    parts = [str(message.text)]
    if isinstance(message, AIMessage):
        parts += [json.dumps({"name": c["name"], "arguments": c["args"]}) for c in message.tool_calls]
    text = Message(role="user", content="\n".join(parts))
    try:
        return dialogue.count(Step(messages=(text,)), template)
    except InvalidRequest:  # a template that wants more than a user's message
        return len(dialogue.encode(text.content))


def _of_tools(dialogue: Dialogue, tools: Sequence[Tool]) -> int:
    shown = ({"name": t.name, "description": t.description, "parameters": t.parameters} for t in tools)
    return sum(len(dialogue.encode(json.dumps(tool, default=str))) for tool in shown)
