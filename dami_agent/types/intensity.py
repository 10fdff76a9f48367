"""Define λ, and the small vocabularies that records and requests share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dami_agent.errors import InvalidIntensity, shown

if TYPE_CHECKING:
    from typing_extensions import Self

Role = Literal["system", "user", "assistant", "tool"]
Template = Literal["instruct", "thinking"]
Part = Literal["reasoning", "control", "answer"]
FinishReason = Literal["stop", "length"]
ThoughtClosedBy = Literal["model", "cap", "eos", "tool_call", "repetition"]
WeightsMode = Literal["merged", "mixed"]
PrefixMode = Literal["exact", "shared", "auto"]
"""How prompts are read: at the λ of their reply, at one λ for the replies of all, or shared where that is measured."""


class Intensity(float):
    """Represents the reasoning intensity λ: a finite float in [0, 1]; 0 is the Instruct model, 1 the Thinking model.

    Raises:
        InvalidIntensity: for anything else (NaN, infinity, bool, text, out of range).
    """

    __slots__ = ()

    def __new__(cls, value: float | str) -> Self:
        """Validate; -0.0 becomes 0.0."""
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        if number is None or not 0.0 <= number <= 1.0:  # NaN is not
            raise InvalidIntensity(
                f"reasoning intensity must be a finite number in [0, 1], got {shown(value)}",
                hint="0 is the Instruct model, 1 the Thinking model; for named levels use reasoning_effort",
            )
        return super().__new__(cls, number + 0.0)  # +0.0 turns -0.0 into 0.0: one cache key per λ

    def __repr__(self) -> str:
        return f"Intensity({float(self):g})"
