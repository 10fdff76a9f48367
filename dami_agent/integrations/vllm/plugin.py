"""Register with vLLM, in every process that it starts, the models that hold a pair: the entry point ``dami``."""

from __future__ import annotations

__all__ = ["ARCHITECTURES", "THINKING", "arguments_for_intensities", "register"]

_PLACE = "dami_agent.integrations.vllm"

ARCHITECTURES = {
    "Qwen3ForCausalLM": "DamiQwen3ForCausalLM",
    "Qwen2ForCausalLM": "DamiQwen2ForCausalLM",
    "LlamaForCausalLM": "DamiLlamaForCausalLM",
}
"""From the architecture of a checkpoint to the one that holds a pair of them."""


THINKING = "dami_thinking"
"""Key of vLLM's ``additional_config``: the Thinking checkpoint's folder."""


def register() -> None:
    """Name the models to vLLM (imported when one is loaded), and have its grammars go on where an answer was begun."""
    from vllm import ModelRegistry

    from dami_agent.integrations.vllm.grammars import continue_begun_answers

    known = ModelRegistry.get_supported_archs()
    for name in ARCHITECTURES.values():
        if name not in known:
            ModelRegistry.register_model(name, f"{_PLACE}.models:{name}")
    continue_begun_answers()


def arguments_for_intensities(*, asynchronous: bool) -> dict[str, object]:
    """Return the arguments of a vLLM engine that have worker, scheduler and admission know a request's λ."""
    scheduler = "AsyncIntensityScheduler" if asynchronous else "IntensityScheduler"
    return {
        "worker_cls": f"{_PLACE}.runners.IntensityWorker",
        "scheduler_cls": f"{_PLACE}.scheduling.{scheduler}",
        "logits_processors": [f"{_PLACE}.admission:IntensityCheck"],
        "async_scheduling": asynchronous,
    }
