"""Refuse a request whose λ makes no sense when it comes in: unguarded it would end the engine, and all requests."""

from __future__ import annotations

from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as LogitsProcessorV2

from dami_agent.integrations.vllm.request_arguments import RequestIntensities

__all__ = ["IntensityCheck"]


class IntensityCheck(LogitsProcessor, LogitsProcessorV2):
    """Processes no logits: vLLM, with either runner, asks every logits processor whether it can take a request."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raise vLLM's ``VLLMValidationError`` for arguments that are no λs."""
        try:
            RequestIntensities.read(sampling_params.extra_args)
        except ValueError as error:
            raise VLLMValidationError(str(error)) from None

    def __init__(self, *_args: Any, **_settings: Any) -> None:
        pass

    def is_argmax_invariant(self) -> bool:
        """Return True: it changes nothing."""
        return True

    def update_state(self, batch_update: Any) -> None:
        """Keep no state."""

    def add_request(self, *_request: Any) -> bool:
        """Return False: no request's logits are changed."""
        return False

    def apply(self, logits: Any, *_context: Any) -> Any:
        """Return the logits as they are."""
        return logits
