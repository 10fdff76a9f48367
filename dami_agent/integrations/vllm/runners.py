"""Tell vLLM's model runners the λ of every scheduled token, before each forward pass.

Runner V2 asks the model for a *model state*; runner V1 has no such hook, so the worker wraps the method that prepares
its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, wraps
from typing import Any

import numpy as np
import torch
from vllm.platforms import current_platform

from dami_agent.integrations.vllm.request_arguments import RequestIntensities

__all__ = ["IntensityWorker", "intensities_of_tokens", "model_state_class"]


def intensities_of_tokens(
    requests: Sequence[RequestIntensities], computed: Sequence[int], scheduled: Sequence[int]
) -> torch.Tensor:
    """Return λ of every scheduled token, request after request: float32 [sum of ``scheduled``].

    Args:
        requests: λs of each request.
        computed: tokens of each that were computed before.
        scheduled: tokens of each that are computed now.
    """
    counts = np.asarray(scheduled, dtype=np.int64)
    at = np.repeat(np.array([each.intensity for each in requests], dtype=np.float32), counts)
    start = 0
    for each, before, count in zip(requests, computed, counts.tolist(), strict=True):
        shared = min(count, max(0, each.prefix_tokens - int(before)))
        at[start : start + shared] = each.prefix_intensity
        start += count
    return torch.from_numpy(at)


def _intensities(sampling_params: Any) -> RequestIntensities:
    return RequestIntensities.read(getattr(sampling_params, "extra_args", None))


# ---- model runner V1 ------------------------------------------------------------------------------------------------


def follow_v1(runner: Any) -> None:
    """Have a model runner of version 1 write the λs of what it has prepared."""
    prepare = runner._prepare_inputs

    @wraps(prepare)
    def prepare_with_intensities(scheduler_output: Any, num_scheduled_tokens: Any) -> Any:
        out = prepare(scheduler_output, num_scheduled_tokens)
        batch = runner.input_batch
        requests = [_intensities(runner.requests[each].sampling_params) for each in batch.req_ids]
        computed = batch.num_computed_tokens_cpu[: len(requests)]
        runner.get_model().intensity_rows.write(intensities_of_tokens(requests, computed, num_scheduled_tokens))
        return out

    runner._prepare_inputs = prepare_with_intensities


if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as _Worker
else:
    from vllm.v1.worker.gpu_worker import Worker as _Worker


class IntensityWorker(_Worker):
    """Serves as vLLM's worker of this platform, whose model runner knows the λ of every row."""

    def init_device(self) -> None:
        """Make the model runner, and have one of version 1 write the λs; one of version 2 asks the model itself."""
        super().init_device()
        if hasattr(self.model_runner, "_prepare_inputs"):
            follow_v1(self.model_runner)


# ---- model runner V2 ------------------------------------------------------------------------------------------------


@cache
def model_state_class() -> type:
    """Return the model state of runner V2 that keeps every request's λs and writes them before a forward pass."""
    from vllm.v1.worker.gpu.model_states.default import DefaultModelState

    class IntensityModelState(DefaultModelState):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self._requests = [RequestIntensities()] * self.max_num_reqs

        def add_request(self, req_index: int, new_req_data: Any) -> None:
            super().add_request(req_index, new_req_data)
            self._requests[req_index] = _intensities(new_req_data.sampling_params)

        def prepare_inputs(self, input_batch: Any, req_states: Any) -> Any:
            requests = [self._requests[index] for index in input_batch.idx_mapping_np]
            at = intensities_of_tokens(requests, input_batch.num_computed_tokens_np, input_batch.num_scheduled_tokens)
            self.model.intensity_rows.write(at)
            return super().prepare_inputs(input_batch, req_states)

    return IntensityModelState
