"""Write and read the λs of a request as vLLM carries them: ``SamplingParams.extra_args``, ``vllm_xargs`` over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["INTENSITY", "PREFIX_INTENSITY", "PREFIX_TOKENS", "RequestIntensities"]

INTENSITY = "reasoning_intensity"
PREFIX_INTENSITY = "prefix_intensity"
PREFIX_TOKENS = "prefix_tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestIntensities:
    """Holds the λ of every token of one request.

    Attributes:
        intensity: λ of all tokens but the first ``prefix_tokens``.
        prefix_intensity: λ of those, as they are read for every request that shares them.
        prefix_tokens: how many there are; 0 where all tokens are read at one λ.
    """

    intensity: float = 0.0
    prefix_intensity: float = 0.0
    prefix_tokens: int = 0

    @classmethod
    def read(cls, extra_args: Mapping[str, Any] | None) -> RequestIntensities:
        """Read a request's own arguments; λ = 0 where it gives none.

        Raises:
            ValueError: a λ that is no finite number in [0, 1], a negative count, or a prefix without its λ.
        """
        given = extra_args or {}
        intensity = _intensity(INTENSITY, given.get(INTENSITY, 0.0))
        prefix_tokens = given.get(PREFIX_TOKENS, 0)
        if type(prefix_tokens) is not int or prefix_tokens < 0:
            raise ValueError(f"{PREFIX_TOKENS} must be a whole number of at least 0, got {prefix_tokens!r}")
        if (PREFIX_INTENSITY in given) != bool(prefix_tokens):
            raise ValueError(f"{PREFIX_INTENSITY} and {PREFIX_TOKENS} (at least 1) must be given together")
        prefix = _intensity(PREFIX_INTENSITY, given[PREFIX_INTENSITY]) if prefix_tokens else intensity
        if prefix == intensity:
            prefix_tokens = 0
        return cls(intensity=intensity, prefix_intensity=prefix, prefix_tokens=prefix_tokens)

    def write(self) -> dict[str, float | int]:
        """Return the arguments that :meth:`read` makes this of."""
        if not self.prefix_tokens:
            return {INTENSITY: self.intensity}
        return {
            INTENSITY: self.intensity,
            PREFIX_INTENSITY: self.prefix_intensity,
            PREFIX_TOKENS: self.prefix_tokens,
        }


def _intensity(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:  # nor is NaN
        raise ValueError(f"{name} must be a finite number in [0, 1], got {value!r}")
    return float(value)
