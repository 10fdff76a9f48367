"""What a request says is checked where it comes in, and what vLLM cannot hold is refused before it is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import RunError, UnsupportedCheckpoint, UsageError
from dami_agent.integrations.vllm.request_arguments import RequestIntensities
from tests.pairs import write_pair
from tests.runtime.support import ask, prompt_of


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, "high", None, True, [0.5]])
def test_an_intensity_that_is_none_is_refused_at_admission(value: Any) -> None:
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    from dami_agent.integrations.vllm.admission import IntensityCheck

    with pytest.raises(VLLMValidationError, match="reasoning_intensity"):
        IntensityCheck.validate_params(SamplingParams(extra_args={"reasoning_intensity": value}))
    IntensityCheck.validate_params(SamplingParams(extra_args={"reasoning_intensity": 1}))
    IntensityCheck.validate_params(SamplingParams())


def test_a_bad_request_to_vllm_harms_no_other(engine: Any) -> None:
    """λ="abc" is refused by vLLM's own admission, and the engine serves on."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    bad = SamplingParams(extra_args={"reasoning_intensity": "abc"})
    with pytest.raises(VLLMValidationError, match="reasoning_intensity"):
        engine.loop.engine.add_request("bad", {"prompt_token_ids": [1, 2]}, bad)
    assert engine.generate(prompt_of([1, 2, 3]), ask(0.5, max_tokens=2)).output_tokens <= 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "tpu"}, "device='tpu'"),
        ({"mode": "merged"}, "weights_mode='merged'"),
        ({"pipeline_parallel_size": 2}, "pipeline_parallel_size"),
        ({"block_size": 7}, "vLLM did not start"),
        ({"no_such_argument": 7}, "vLLM did not start: TypeError.*no_such_argument"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(
    given: dict[str, Any], message: str, lab: Any, open_vllm: Callable[..., Any]
) -> None:
    with pytest.raises(UsageError, match=message):
        open_vllm(lab.instruct, lab.thinking, **given)


def test_mixtures_of_experts_are_refused_with_the_reason(tmp_path: Path, open_vllm: Callable[..., Any]) -> None:
    pair = write_pair(tmp_path, arch="qwen3_moe")
    with pytest.raises(UnsupportedCheckpoint, match="two endpoints of Qwen3Moe") as refused:
        open_vllm(*pair)
    assert "fused experts" in str(refused.value.hint)


def test_what_a_request_carries_is_read_back() -> None:
    for given in (
        RequestIntensities(intensity=0.3, prefix_intensity=0.3),
        RequestIntensities(intensity=0.3, prefix_intensity=1.0, prefix_tokens=12),
    ):
        assert RequestIntensities.read(given.write()) == given
    with pytest.raises(ValueError, match="together"):
        RequestIntensities.read({"reasoning_intensity": 0.3, "prefix_intensity": 1.0})


def test_a_request_that_vllm_ends_without_a_token_fails_and_is_not_begun_again(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, begun = engine.loop.engine, []
    add = inner.add_request

    def aborted(name: str, *rest: Any) -> None:
        begun.append(name)
        add(name, *rest)
        monkeypatch.setattr(inner, "step", step)

    steps = inner.step

    def step() -> list[Any]:
        outputs = steps()
        for output in outputs:
            output.outputs[0].token_ids, output.finished = [], True
        return outputs

    monkeypatch.setattr(inner, "add_request", aborted)
    with pytest.raises(RunError, match="without a token"):
        engine.generate(prompt_of([1, 2, 3]), ask(0.5, max_tokens=2))
    assert len(begun) == 1
    monkeypatch.undo()
    assert engine.generate(prompt_of([1, 2, 3]), ask(0.5, max_tokens=2)).output_tokens <= 2


def test_a_model_of_this_engine_answers_with_tools(tmp_path: Path) -> None:
    """ChatDAMI over vLLM: auto λ, tool calls under their grammar, the ledger, and a session that opens again."""
    from langchain_core.tools import tool

    from dami_agent import ChatDAMI

    @tool
    def get_price(item: str) -> int:
        """Look up the price of an item."""
        return 12

    llm = ChatDAMI(engine="vllm", dtype="float32", context_length=1024, ledger=str(tmp_path / "ledger.sqlite"), seed=1)
    assert CheckpointPair.builtin().fingerprint
    reply = llm.bind_tools([get_price]).invoke("What does a lamp cost?")
    assert [call["name"] for call in reply.tool_calls] == ["get_price"]
    assert "confidence" in reply.response_metadata["reason"], "vLLM tells no hidden states"
    deep = llm.invoke("Add 17 to 25, then add 9.", reasoning_intensity=1.0)
    assert deep.additional_kwargs["reasoning_content"]
    assert deep.content
    assert deep.usage_metadata["output_token_details"]["reasoning"] > 0
    llm.close()
    assert llm.invoke("Add 1 to 2.", reasoning_intensity=0.0).content
    llm.close()
