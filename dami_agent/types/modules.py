"""Read a λ per kind of module and range of layers, and write it in the one form that equal ones share.

::

    ffn[0-11]=0.9,ffn[12-]=0.6,attention=0.5,other=0.4

Parts are separated by commas. A part is a kind, layers in brackets where it is about some alone (``[3]``; ``[0-11]``,
both ends included; ``[12-]``, to the last; the first layer is 0), ``=`` and λ. A part with layers goes before one
without, and either before ``other``, which stands for all that no other part names and must be given. Spaces and case
say nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from dami_agent.errors import InvalidIntensity, shown

ModuleKind = Literal["attention", "embedding", "ffn", "norm", "other"]
"""``norm`` holds all norms, those of attention too; ``embedding`` the head (``lm_head``) too; ``other`` the rest."""

KINDS: tuple[ModuleKind, ...] = get_args(ModuleKind)
_IN_LAYERS: tuple[ModuleKind, ...] = ("attention", "ffn")
EXAMPLE = "ffn=0.9,attention=0.5,other=0.5"

_LONGEST = 4_000  # characters
_PART = re.compile(r"([a-z_]+)\s*(?:\[\s*([0-9]{1,6})\s*(?:(-)\s*([0-9]{1,6})?\s*)?\]\s*)?=\s*(\S+)")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class ModulePart:
    """Holds λ of a kind of module: in the layers from ``first`` to ``last``, or wherever no other part is about it.

    Attributes:
        kind: of the modules.
        value: λ.
        first: number of the first layer, from 0; None: the part names no layers.
        last: number of the last layer, itself included; None beside a ``first``: the model's last.
    """

    kind: ModuleKind
    value: float
    first: int | None = None
    last: int | None = None

    @property
    def place(self) -> str:
        """Return what the part is about, as it is written."""
        if self.first is None:
            return self.kind
        if self.first == self.last:
            return f"{self.kind}[{self.first}]"
        return f"{self.kind}[{self.first}-{'' if self.last is None else self.last}]"

    def covers(self, layer: int | None) -> bool:
        """Tell whether the part names layers, and this one among them."""
        if self.first is None or layer is None:
            return False
        return self.first <= layer and (self.last is None or layer <= self.last)

    def overlaps(self, other: ModulePart) -> bool:
        """Tell whether both say something of the same modules, and neither goes before the other."""
        if self.kind != other.kind or (self.first is None) != (other.first is None):
            return False
        return self.first is None or self.covers(other.first) or other.covers(self.first)

    def __str__(self) -> str:
        return f"{self.place}={repr(self.value).removesuffix('.0')}"


def read_parts(text: str) -> tuple[ModulePart, ...]:
    """Read parts as they are written, in canonical form: equal for all texts that give every module the same λ.

    Raises:
        InvalidIntensity: naming the part that is wrong, or saying what is missing.
    """
    if len(text) > _LONGEST:
        raise _wrong(text, f"it is longer than {_LONGEST:,} characters")
    parts: list[ModulePart] = []
    for written in text.lower().split(","):
        part = _read_part(written.strip(), text)
        for earlier in parts:
            if part.overlaps(earlier):
                same = part.place == earlier.place
                what = f"{part.place} is given twice" if same else f"{earlier.place} and {part.place} overlap"
                raise _wrong(text, what, "give every layer of a kind one λ; ranges include both ends")
        parts.append(part)
    named = {part.kind for part in parts if part.first is None}
    if "other" not in named:
        left = ", ".join(kind for kind in KINDS if kind not in named)
        raise _wrong(text, f"it leaves {left} without a λ", f"say what all others get: {text.strip()[:100]},other=0.5")
    return canonical(parts)


def value_at(parts: Sequence[ModulePart], kind: ModuleKind, layer: int | None) -> float:
    """Find λ of a module of this kind.

    Args:
        parts: with one for ``other``.
        kind: of the module.
        layer: that it stands in; None: in none, as embeddings and the last norm.
    """
    for name in (kind, "other"):
        own = [part for part in parts if part.kind == name]
        found = next((part for part in own if part.covers(layer)), None)
        found = found or next((part for part in own if part.first is None), None)
        if found is not None:
            return found.value
    raise AssertionError("parts end with what all others get")


def canonical(parts: Sequence[ModulePart]) -> tuple[ModulePart, ...]:
    """Return the parts that say the same with nothing redundant, in order of kind and layer; ``other`` alone: one λ."""
    ends = {0, *(p.first for p in parts if p.first is not None), *(p.last + 1 for p in parts if p.last is not None)}
    starts = sorted(ends)  # λ of a kind can only change there
    rest = value_at(parts, "other", None)
    others = [value_at(parts, "other", start) for start in starts]
    kept = [ModulePart("other", rest), *_stretches(parts, "other", starts, [rest] * len(starts))]
    if (embedding := value_at(parts, "embedding", None)) != rest:
        kept.append(ModulePart("embedding", embedding))
    for kind in _IN_LAYERS:
        needed = _stretches(parts, kind, starts, others)
        first = value_at(parts, kind, 0)
        alike = all(value_at(parts, kind, start) == first for start in starts)
        kept += [ModulePart(kind, first)] if alike and needed else needed
    # Norms stand in layers, and one after the last of them.
    last = value_at(parts, "norm", None)
    needed, own = _stretches(parts, "norm", starts, others), _stretches(parts, "norm", starts, [last] * len(starts))
    if last != rest or (needed and not own):
        kept += [ModulePart("norm", last), *own]
    else:
        kept += needed
    return tuple(sorted(kept, key=lambda part: (part.kind, -1 if part.first is None else part.first)))


def _stretches(
    parts: Sequence[ModulePart], kind: ModuleKind, starts: Sequence[int], without: Sequence[float]
) -> list[ModulePart]:
    """List the longest stretches of layers at one λ, but for those that would have it without being named.

    Args:
        parts: what is said.
        kind: of the modules.
        starts: layers from which on λ may be another, the first included.
        without: λ that each of them would have.
    """
    found: list[tuple[ModulePart, bool]] = []
    for start, end, other in zip(starts, [*(start - 1 for start in starts[1:]), None], without, strict=True):
        value = value_at(parts, kind, start)
        if found and found[-1][0].value == value:
            found[-1] = (replace(found[-1][0], last=end), found[-1][1] or value != other)
        else:
            found.append((ModulePart(kind, value, start, end), value != other))
    return [part for part, needed in found if needed]


def _read_part(written: str, text: str) -> ModulePart:
    found = _PART.fullmatch(written)
    if found is None:
        what = f"{shown(written)} is not a part" if written else "a part is empty"
        raise _wrong(text, what, f"a part is a kind, its layers where need be, and λ: {EXAMPLE}, or ffn[0-11]=0.9")
    kind, first, to, last, number = found.groups()
    if kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        raise _wrong(text, f"there is no kind {shown(kind)}", f"did you mean {close[0]!r}?" if close else _KNOWN)
    if kind == "embedding" and first is not None:
        raise _wrong(text, "embeddings stand in no layer", "leave the brackets out: embedding=0.5")
    value = float(number) if _NUMBER.fullmatch(number) else -1.0
    if not 0 <= value <= 1:
        raise _wrong(text, f"λ of {written.partition('=')[0].strip()} is {shown(number)}", "λ is a number from 0 to 1")
    begin = None if first is None else int(first)
    end = begin if to is None else None if last is None else int(last)
    if begin is not None and end is not None and end < begin:
        raise _wrong(text, f"the layers {begin} to {end} are none", "the first layer of a range comes first: ffn[0-11]")
    return ModulePart(cast(ModuleKind, kind), value + 0.0, begin, end)  # +0.0 turns -0.0 into 0.0


_KNOWN = f"kinds are {', '.join(KINDS)}"


def _wrong(text: str, what: str, hint: str = f"for example {EXAMPLE}") -> InvalidIntensity:
    return InvalidIntensity(f"reasoning intensity {shown(text)}: {what}", hint=hint)
