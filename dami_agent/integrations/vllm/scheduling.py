"""Make λ part of every key of vLLM's prefix cache: no block that was computed at one λ is read at another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import generate_block_hash_extra_keys, hash_block_tokens
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from dami_agent.integrations.vllm.request_arguments import RequestIntensities

__all__ = ["AsyncIntensityScheduler", "IntensityScheduler"]


class _IntensityKeys:
    """Adds to a scheduler of vLLM's that blocks are found again by the λ that they were computed at.

    A block of the shared prefix has the prefix's λ in its key; from the block on in which the prefix ends, the reply's
    λ and the place of that end are in it too.
    """

    def add_request(self, request: Any) -> None:
        """Key the request's blocks, then schedule it."""
        if request._block_hasher is not None:  # else prefixes are not cached
            intensities = RequestIntensities.read(getattr(request.sampling_params, "extra_args", None))
            request._block_hasher = self._hasher(intensities)
            request.block_hashes.clear()
            request.update_block_hashes()
        super().add_request(request)  # type: ignore[misc]

    def _hasher(self, intensities: RequestIntensities) -> Callable[[Any], list[Any]]:
        size: int = self.hash_block_size  # type: ignore[attr-defined]
        config = self.vllm_config.cache_config  # type: ignore[attr-defined]
        hash_of = get_hash_fn_by_name(config.prefix_caching_hash_algo)
        of_prefix = ("dami", intensities.prefix_intensity)
        of_reply = ("dami", intensities.prefix_intensity, intensities.intensity, intensities.prefix_tokens)

        def hashes(request: Any) -> list[Any]:
            known = list(request.block_hashes)
            new = []
            for start in range(len(known) * size, request.num_tokens - size + 1, size):
                end = start + size
                extra, _ = generate_block_hash_extra_keys(request, start, end, 0)
                ours = of_prefix if end <= intensities.prefix_tokens or not intensities.prefix_tokens else of_reply
                known.append(
                    hash_block_tokens(
                        hash_of,
                        known[-1] if known else None,
                        request.all_token_ids[start:end],
                        (*(extra or ()), ours),
                    )
                )
                new.append(known[-1])
            return new

        return hashes


class IntensityScheduler(_IntensityKeys, Scheduler):
    """Schedules step by step."""


class AsyncIntensityScheduler(_IntensityKeys, AsyncScheduler):
    """Schedules a step while the one before runs."""
