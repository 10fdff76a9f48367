"""Keep the heads of one pair in one file, and find them by the pair's fingerprint."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from typing_extensions import Self

from dami_agent.errors import InvalidRequest
from dami_agent.estimators.head import TENSORS, Head, Kind, PricePoint, Reads
from dami_agent.estimators.head_files import heads_path, offered_heads
from dami_agent.estimators.preference import MAX_LOSS
from dami_agent.files import write_whole
from dami_agent.types import Intensity

__all__ = ["Heads", "find_heads", "usable_heads"]

_FORMAT = "dami-heads-1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Heads:
    """Holds what was trained for one pair: a head for each kind of prompt and each thing to read, or some of them.

    Attributes:
        fingerprint: of the pair.
        heads: no two alike in what they read and are for.
    """

    fingerprint: str
    heads: tuple[Head, ...]

    def __repr__(self) -> str:
        """Show the pair and a digest of the numbers, which is part of cache keys."""
        return f"Heads(fingerprint={self.fingerprint!r}, digest={self.digest!r})"

    def __iter__(self) -> Iterator[Head]:
        return iter(self.heads)

    @property
    def digest(self) -> str:
        """Identify all that the heads predict from and choose by: equal for equal heads, in every process."""
        found = blake2b(digest_size=8)
        for head in self.heads:
            said: tuple[object, ...] = (head.reads, head.kind, head.layers, head.lambdas, head.thinking_tokens)
            said = (*said, head.prices, *((head.read_at,) if head.read_at else ()))
            found.update(repr(said).encode())
            for name in TENSORS:
                found.update(getattr(head, name).float().contiguous().numpy().tobytes())
        return found.hexdigest()

    def get(self, reads: Reads, kind: Kind) -> Head | None:
        """Return the head that reads this and is for such prompts, if there is one."""
        return next((head for head in self.heads if (head.reads, head.kind) == (reads, kind)), None)

    def best(self, kind: Kind) -> Head | None:
        """Return the head for such prompts that pays and gets the most of its tokens, if any pays.

        That is the greatest ``static_gain``, accuracy beyond that of fixed λs at equal tokens, of those that lose no
        more against always-Thinking at the default loss than that, within their interval. Heads on entropy are not
        among them: ``auto`` chooses between the others.
        """
        able = (head for head in self.heads if head.kind == kind and head.reads != "entropy" and head.pays())
        sound = (head for head in able if (at := head.point_within(MAX_LOSS)).gain >= -MAX_LOSS - at.gain_ci)
        return max(sound, key=lambda head: head.static_gain, default=None)

    def save(self, path: Path) -> None:
        """Write a safetensors file whose metadata say all the rest."""
        said = {"fingerprint": self.fingerprint, "heads": [_described(head) for head in self.heads]}
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{head.reads}.{head.kind}.{name}": getattr(head, name).float().contiguous()
            for head in self.heads
            for name in TENSORS
        }
        write_whole(path, save(tensors, metadata={"format": _FORMAT, "heads": json.dumps(said)}))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            InvalidRequest: the file is not there, or holds no heads.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise ValueError(f"its format is {metadata.get('format')!r}, not {_FORMAT!r}")
                said = json.loads(metadata["heads"])
                heads = tuple(_read(each, file) for each in said["heads"])
            return cls(fingerprint=str(said["fingerprint"]), heads=heads)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidRequest(
                f"{path} cannot be read as heads: {type(error).__name__}: {error}",
                hint="write one with `dami train-estimator`",
            ) from error


def _described(head: Head) -> dict[str, Any]:
    return {
        "reads": head.reads,
        "kind": head.kind,
        "layers": list(head.layers),
        "lambdas": [float(value) for value in head.lambdas],
        "thinking_tokens": head.thinking_tokens,
        "prices": [asdict(point) for point in head.prices],
        "card": dict(head.card),
        "read_at": float(head.read_at),
    }


def _read(said: dict[str, Any], file: Any) -> Head:
    head = Head(
        reads=said["reads"],
        kind=said["kind"],
        layers=tuple(int(layer) for layer in said["layers"]),
        lambdas=tuple(Intensity(float(value)) for value in said["lambdas"]),
        thinking_tokens=float(said["thinking_tokens"]),
        prices=tuple(PricePoint(**{k: float(v) for k, v in point.items()}) for point in said["prices"]),
        card=dict(said["card"]),
        read_at=Intensity(float(said.get("read_at", 0))),  # heads of before were read at 0
        **{name: file.get_tensor(f"{said['reads']}.{said['kind']}.{name}") for name in TENSORS},
    )
    head.check_shapes()
    return head


def find_heads(fingerprint: str) -> Heads | None:
    """Return the heads for a pair: the user's own, else those beside the checkpoints; None if there are none.

    Raises:
        InvalidRequest: there is a file, and it holds no heads, or those of another pair.
    """
    own, beside = heads_path(fingerprint), offered_heads(fingerprint)
    path = own if own.is_file() else beside
    if path is None or not path.is_file():
        return None
    heads = _load_once(path, path.stat().st_mtime_ns)
    if heads.fingerprint != fingerprint:
        raise InvalidRequest(
            f"the heads in {path} were trained for another pair ({heads.fingerprint}) than this one ({fingerprint})",
            hint="train some for this pair (`dami train-estimator`), or remove the file",
        )
    return heads


def usable_heads(fingerprint: str) -> Heads | None:
    """Return what :func:`find_heads` does, but warn of a file that cannot be used, once, and return None for it."""
    try:
        return find_heads(fingerprint)
    except InvalidRequest as error:
        text = f"{error}; λ is estimated without it"
        if text not in _warned:
            _warned.add(text)
            warnings.warn(text, stacklevel=2)
        return None


_warned: set[str] = set()


@lru_cache(maxsize=8)
def _load_once(path: Path, changed: int) -> Heads:
    """Read a file once for as long as it stays as it is."""
    return Heads.load(path)
