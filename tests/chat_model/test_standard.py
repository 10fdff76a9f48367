"""LangChain's standard suites on the built-in pair."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from dami_agent.chat_model import ChatDAMI
from dami_agent.ledger import Ledger

# The suites pass temperature=0, at which a thinking model warns (it loops); the checkpoints' own sampling is used.
PARAMS: dict[str, Any] = {"temperature": 0.6, "seed": 1, "ledger": Ledger.disabled()}


class TestUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatDAMI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return PARAMS


class TestIntegration(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatDAMI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return PARAMS

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> Any:
        return {"invoke": ["reasoning_output"], "stream": ["reasoning_output"]}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> Any:
        model = ChatDAMI(**PARAMS, reasoning_intensity=1.0)
        question = "Start with 7. Add 5. Multiply by 3. What is the result?"
        if not stream:
            return model.invoke(question)
        full = None
        for chunk in model.stream(question):
            full = chunk if full is None else full + chunk
        return full
