"""Keep one working copy of the weights, at one λ, rebuilt from both immutable endpoints at every switch.

λ=0 and λ=1 point the model's parameters at the endpoint tensors themselves: exact by construction, free, and without
touching the working copy's memory (so a captured graph must not outlive a switch: the addresses change). Any λ between
is ``torch.lerp`` into a third set of tensors. lerp computes bf16 and fp16 in float32 and rounds once, on CPU and CUDA,
so that no float32 copy is needed; weights are never changed by increments, whose rounding would add up. Where λ is one
per module, each tensor is built, or pointed at its end, at its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from dami_agent.errors import InsufficientMemory, UsageError
from dami_agent.types import Intensity, WeightsMode
from dami_agent.weights.base import Weights, unique_nbytes
from dami_agent.weights.endpoints import Slot
from dami_agent.weights.modules import place_of


class MergedWeights(Weights):
    """θ(λ) for the whole batch; every ``AutoModelForCausalLM`` runs.

    A switch is all-or-nothing: until it has succeeded, ``intensity`` is None, and a model whose intensity is None
    is never lent: the next ``at`` rebuilds it, whatever λ it asks for.
    """

    mode: WeightsMode = "merged"

    def __init__(
        self, model: PreTrainedModel, slots: Sequence[Slot], *, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(model, device=device, dtype=dtype)
        self.slots = tuple(slots)
        self._places = tuple(place_of(slot.names) for slot in self.slots)
        self._gpus = {slot.instruct.device for slot in self.slots if slot.instruct.is_cuda}
        self._intensity: Intensity | None = None
        self._switch(Intensity(0))
        self.switch_seconds = 0.0

    @property
    def intensity(self) -> Intensity | None:
        """Return λ of the weights as they are now; None after a switch that failed."""
        return self._intensity

    def nbytes(self) -> dict[str, int]:
        """Return the bytes of the two endpoints and of the working copy (0 until a λ between the ends is asked for)."""
        return {
            "instruct": unique_nbytes([slot.instruct for slot in self.slots]),
            "thinking": unique_nbytes([slot.thinking for slot in self.slots]),
            "working": unique_nbytes([slot.working for slot in self.slots if slot.working is not None]),
        }

    def _prepare(self, intensities: tuple[Intensity, ...]) -> None:
        different = sorted(set(intensities))
        if len(different) > 1:
            raise UsageError(
                f"merged weights have one λ at a time, the batch asks for {', '.join(f'{v:g}' for v in different)}",
                hint="run one forward pass per λ, or load with mode='mixed'",
            )
        if intensities[0] != self._intensity:
            self._switch(intensities[0])

    def _switch(self, intensity: Intensity) -> None:
        """Rebuild the weights at ``intensity``; ``self.intensity`` is None while this runs and if it fails."""
        start = time.perf_counter()
        values = [intensity.at_module(*place) for place in self._places]
        # inference_mode(False): a working copy made inside a caller's inference mode could not be written outside it
        with torch.inference_mode(False), torch.no_grad():
            if any(0 < value < 1 for value in values):
                self._allocate()
            self._intensity = None
            for slot, value in zip(self.slots, values, strict=True):
                slot.point_to(self._build(slot, value))
        for device in self._gpus:  # so that an asynchronous failure, and the time, belong to the switch
            torch.cuda.synchronize(device)
        self._intensity = intensity
        self.version += 1
        self.switch_seconds += time.perf_counter() - start

    def _allocate(self) -> None:
        """Take the working copy's memory, all of it or none; the weights in use are not touched."""
        if all(slot.working is not None for slot in self.slots):
            return
        try:
            fresh = [torch.empty_like(slot.instruct, memory_format=torch.contiguous_format) for slot in self.slots]
        except (torch.OutOfMemoryError, MemoryError) as error:
            need = sum(slot.instruct.nbytes for slot in self.slots) / 2**30
            raise InsufficientMemory(
                f"no room for a merged copy of {need:.1f} GiB on {self.device}",
                hint="mode='mixed' needs no merged copy; λ=0 and λ=1 need none either",
            ) from error
        for slot, tensor in zip(self.slots, fresh, strict=True):
            slot.working = tensor

    @staticmethod
    def _build(slot: Slot, value: float) -> torch.Tensor:
        """Merge the two tensors of one slot at λ; shape and dtype are theirs (and the endpoint itself at λ=0 and 1)."""
        if value <= 0:
            return slot.instruct
        if value >= 1:
            return slot.thinking
        assert slot.working is not None
        return torch.lerp(slot.instruct, slot.thinking, value, out=slot.working)
