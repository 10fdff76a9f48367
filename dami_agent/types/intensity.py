"""Define λ, and the small vocabularies that records and requests share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

from dami_agent.errors import InvalidIntensity, shown
from dami_agent.types.modules import ModuleKind, ModulePart, canonical, read_parts, value_at

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

    A text such as ``"ffn=0.9,attention=0.5,other=0.5"`` gives a :class:`ModuleIntensity`, or a plain one where every
    module has the same λ.

    Raises:
        InvalidIntensity: for anything else (NaN, infinity, bool, other text, out of range).
    """

    __slots__ = ()

    def __new__(cls, value: float | str) -> Self:
        """Validate; -0.0 becomes 0.0."""
        if isinstance(value, ModuleIntensity):
            return cast("Self", value)
        if isinstance(value, str) and "=" in value:
            return cast("Self", _of_parts(read_parts(value)))
        number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        if number is None or not 0.0 <= number <= 1.0:  # NaN is not
            raise InvalidIntensity(
                f"reasoning intensity must be a finite number in [0, 1], got {shown(value)}",
                hint="0 is the Instruct model, 1 the Thinking model; for named levels use reasoning_effort",
            )
        return super().__new__(cls, number + 0.0)  # +0.0 turns -0.0 into 0.0: one cache key per λ

    @property
    def modules(self) -> str | None:
        """Return the canonical text of a λ per module; None where all have the same."""
        return None

    def at_module(self, kind: ModuleKind, layer: int | None) -> float:
        """Return λ of the modules of this kind.

        Args:
            kind: of the modules.
            layer: that they stand in, from 0; None: in none, as embeddings and the last norm.
        """
        return float(self)

    def clamped(self, low: float, high: float) -> Intensity:
        """Return the nearest λ, of each module, between the bounds; the high one wins where they cross."""
        return Intensity(min(max(float(self), low), high))

    def __repr__(self) -> str:
        number = float(self)
        return f"Intensity({f'{number:g}' if float(f'{number:g}') == number else repr(number)})"


class ModuleIntensity(Intensity):
    """Represents a λ per kind of module and range of layers; ``Intensity(text)`` makes it, merged weights run it.

    As a number it is the largest of its λs. So it can be put wherever a λ is compared with a bound, and what follows
    holds for all modules: it is within a budget's ceiling if all are, the next λ up the grid is deeper for all, and it
    is never 0 (a λ of 0 everywhere is a plain one). A mean would promise none of this, and would have to know the
    model's layers and sizes.

    It is *equal* only to what gives every module the same λ, never to a plain number, and hashes accordingly: equal
    numbers are no equal weights, and no cache, batch or weights may take one for the other. ``<`` and ``<=`` compare
    numbers. Formatted it is its text, whatever the format: the number alone would not say what ran.
    """

    __slots__ = ("_parts",)

    _parts: tuple[ModulePart, ...]

    def __new__(cls, value: float | str) -> Self:
        """Read it as :class:`Intensity` does, which a plain number stays."""
        return cast("Self", Intensity(value))

    @property
    def parts(self) -> tuple[ModulePart, ...]:
        """Return what it says in canonical form."""
        return self._parts

    @property
    def modules(self) -> str:
        """Return the canonical text: equal for equal intensities, and read back as the same."""
        return ",".join(map(str, self._parts))

    def at_module(self, kind: ModuleKind, layer: int | None) -> float:
        """Return λ of the modules of this kind; see :meth:`Intensity.at_module`."""
        return value_at(self._parts, kind, layer)

    def clamped(self, low: float, high: float) -> Intensity:
        """Return the nearest λ, of each module, between the bounds; plain where only one is left."""
        moved = [replace(part, value=min(max(part.value, low), high)) for part in self._parts]
        return _of_parts(canonical(moved))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModuleIntensity) and self._parts == other._parts

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._parts)

    def __repr__(self) -> str:
        return f"Intensity({self.modules!r})"

    def __str__(self) -> str:
        return self.modules

    def __format__(self, spec: str) -> str:
        return self.modules

    def __reduce__(self) -> tuple[type[Intensity], tuple[str]]:
        return Intensity, (self.modules,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def _of_parts(parts: Sequence[ModulePart]) -> Intensity:
    """Make λ of canonical parts: a plain one where there is but one."""
    if len(parts) == 1:
        return Intensity(parts[0].value)
    made = float.__new__(ModuleIntensity, max(part.value for part in parts))
    made._parts = tuple(parts)
    return made


def modules_of(value: float | None) -> str | None:
    """Return the canonical text of a λ per module; None for any other number."""
    return value.modules if isinstance(value, Intensity) else None


USE_MERGED = 'use engine="local" and weights_mode="merged"; "auto" may choose mixed, and vLLM always is'
"""The hint where a λ per module meets an engine that runs none."""


def require_one(value: float, what: str, hint: str = "give it as reasoning_intensity, or in a policy's rules") -> None:
    """Refuse a λ per module where only one λ for all can be.

    Raises:
        InvalidIntensity: saying that ``what`` takes none.
    """
    if isinstance(value, ModuleIntensity):
        raise InvalidIntensity(f"{what} one λ for all modules, not one per module: {value}", hint=hint)
