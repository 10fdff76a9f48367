"""Hold a pair's frontier: the measured table λ -> accuracy, output tokens, think ratio, and what follows from it.

Tokens and accuracy are not monotone in λ (arXiv 2510.10977, tables 2 and 3): between the two ends lies a valley where
answers get longer and worse. So estimates snap to λs that were measured and are Pareto-efficient, the *grid*.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from dami_agent.errors import InvalidIntensity, InvalidPolicy
from dami_agent.types import Intensity, ModuleIntensity, PrefixMode, Template

EFFORTS: tuple[str, ...] = ("none", "minimal", "low", "medium", "high", "max")
"""LangChain's ``reasoning_effort`` names, in order."""

LONGEST_TIMES, MEAN_TIMES, LEAST_LIMIT = 3, 8, 1024
"""What :attr:`Frontier.reply_limit` multiplies. Of the built-in pair, 99.8 % of the replies at λ=1 end by themselves
within 2,048 tokens, and three times its longest kind is 2,881 (``dami sweep``)."""

_EFFORT_SHARE: Mapping[str, float] = {
    "none": 0.0,
    "minimal": 0.2,
    "low": 0.4,
    "medium": 0.6,
    "high": 0.8,
    "max": 1.0,
}
# Without a measured table: past the point where thinking switches on in every published pair (0.4-0.6), up to Thinking.
_EFFORT_UNMEASURED: Mapping[str, float] = {
    "none": 0.0,
    "minimal": 0.5,
    "low": 0.6,
    "medium": 0.7,
    "high": 0.85,
    "max": 1.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierRow:
    """Holds what was measured at one λ.

    Attributes:
        intensity: λ.
        accuracy: share of questions answered correctly, in [0, 1].
        accuracy_ci: half-width of its 95 % interval.
        tokens: mean output tokens, thought and answer.
        think_ratio: share of outputs with a thought that is not empty.
        finished: share of outputs that ended by themselves.
        by_level: accuracy by level of difficulty.
        longest: mean output tokens of the kind of question that takes the most; 0: not told apart.
    """

    intensity: Intensity
    accuracy: float
    tokens: float
    accuracy_ci: float = 0.0
    think_ratio: float = 0.0
    finished: float = 1.0
    by_level: Mapping[str, float] = field(default_factory=dict)
    longest: float = 0.0


def _measured(row: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """Read a measured number: finite and not negative.

    Raises:
        ValueError: it is not.
        KeyError: it is missing, and there is no default.
    """
    value = float(row[name] if default is None else row.get(name, default))
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a number of at least 0, not {value}")
    return value


def _longest(row: Mapping[str, Any]) -> float:
    """Find the longest mean reply among the kinds of questions that the row tells apart."""
    kinds = [cell for family in row.get("cells", {}).values() for cell in family.values()]
    means = [_measured(cell, "tokens") for cell in kinds]
    means += [_measured(row["tokens_by_level"], level) for level in row.get("tokens_by_level", {})]
    return max(means, default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """Holds the rows, ordered by λ, and the point above which Thinking's chat template is used.

    An empty table (``rows=()``) stands for a pair nobody has measured yet: every λ is then allowed.

    Attributes:
        rows: what was measured.
        switch_point: λ.
        pair: name of the pair it was measured on.
        pair_fingerprint: of that pair's weights and templates; "": not known.
        source: where it was read from.
        published: where others published it; "": it was measured here.
        prefix_intensity: λ at which prompts may be read for replies at any λ, measured to cost nothing; None: not so.
    """

    rows: tuple[FrontierRow, ...] = ()
    switch_point: float = 0.0
    pair: str = ""
    pair_fingerprint: str = ""
    source: str = "unmeasured"
    published: str = ""
    prefix_intensity: Intensity | None = None

    @classmethod
    def from_file(cls, path: str | Path, *, of: Literal["questions", "tools"] = "questions") -> Frontier:
        """Read the JSON that ``dami sweep --json`` writes.

        Args:
            path: the file.
            of: ``tools`` reads what its tool dialogues took, a mean over their settings: rows whose ``tokens`` alone
                were measured, empty if there are none. λ is chosen by ``questions``.

        Raises:
            InvalidPolicy: naming the file and the field.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:  # not there, not JSON, not UTF-8, or nested without end
            raise InvalidPolicy(
                f"cannot read the frontier {path}: {error}",
                hint="write one with `dami sweep`",
            ) from error
        source = Path(path).name
        return cls.from_dict(data, source=source) if of == "questions" else cls._of_tools(data, source)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, source: str = "dict") -> Frontier:
        """Build a frontier from the parsed JSON; see :meth:`from_file`.

        Raises:
            InvalidPolicy: naming ``source`` and the field.
        """
        try:
            rows = tuple(
                FrontierRow(
                    intensity=Intensity(float(row["lambda"])),
                    accuracy=_measured(row, "accuracy"),
                    accuracy_ci=_measured(row, "accuracy_ci", 0.0),
                    tokens=_measured(row, "tokens"),
                    think_ratio=_measured(row, "think_ratio", 0.0),
                    finished=_measured(row, "finished", 1.0),
                    longest=_longest(row),
                    by_level={str(level): _measured(row["by_level"], level) for level in row.get("by_level", {})},
                )
                for row in data["rows"]
            )
            switch = _measured(data, "switch_point", 0.0)
            shared = data.get("prefix") or {}
            prefix = Intensity(float(shared["intensity"])) if shared.get("free") else None
        except Exception as error:  # a table that somebody gave us may hold anything
            raise InvalidPolicy(
                f"frontier {source}: {type(error).__name__}: {error}",
                hint="regenerate it with `dami sweep`",
            ) from error
        rows = tuple(sorted(rows, key=lambda r: r.intensity))
        lambdas = [r.intensity for r in rows]
        if len(set(lambdas)) != len(lambdas):
            raise InvalidPolicy(
                f"frontier {source}: a λ is listed twice",
                hint="regenerate it with `dami sweep`",
            )
        return cls(
            rows=rows,
            switch_point=switch,
            pair=str(data.get("pair", "")),
            pair_fingerprint=str(data.get("fingerprint") or ""),
            source=source,
            published=str(data.get("published") or ""),
            prefix_intensity=prefix,
        )

    @classmethod
    def _of_tools(cls, data: Any, source: str) -> Frontier:
        """Read the tool dialogues of a parsed frontier; the file's questions must be valid too."""
        pair = cls.from_dict(data, source=source).pair
        tokens: dict[float, list[float]] = {}
        try:
            for row in data.get("tools") or ():
                tokens.setdefault(float(row["lambda"]), []).append(_measured(row, "tokens"))
        except Exception as error:  # as above
            raise InvalidPolicy(
                f"frontier {source}: tools: {type(error).__name__}: {error}", hint="regenerate it with `dami sweep`"
            ) from error
        rows = [{"lambda": at, "accuracy": 0.0, "tokens": fmean(each)} for at, each in tokens.items()]
        return cls.from_dict({"rows": rows, "pair": pair}, source=source)

    def of_pair(self, fingerprint: str) -> Frontier:
        """Return the frontier itself, having checked that it was measured on the pair that is asked about.

        Args:
            fingerprint: of the pair; "": of no pair that could be told from others, which is not checked.

        Raises:
            InvalidPolicy: it was measured on another pair, and says so.
        """
        if self.pair_fingerprint and fingerprint and self.pair_fingerprint != fingerprint:
            raise InvalidPolicy(
                f"the frontier {self.source} was measured on another pair ({self.pair or 'unnamed'}, fingerprint "
                f"{self.pair_fingerprint}) than the one in use ({fingerprint})",
                hint="take the file away, and measure this pair with `dami calibrate`",
            )
        return self

    @property
    def fingerprint(self) -> str:
        """Identify what was measured, wherever it was read from; "" if nothing was."""
        prefix = () if self.prefix_intensity is None else (self.prefix_intensity,)
        said = repr((self.rows, self.switch_point, *prefix)).encode()
        return blake2b(said, digest_size=6).hexdigest() if self.rows or self.switch_point else ""

    @property
    def grid(self) -> tuple[Intensity, ...]:
        """List the Pareto-efficient λs (none is better at equal or fewer tokens), always 0 and 1; () if unmeasured."""
        if not self.rows:
            return ()
        efficient = {
            row.intensity
            for row in self.rows
            if not any(
                (o.accuracy >= row.accuracy and o.tokens < row.tokens)
                or (o.accuracy > row.accuracy and o.tokens <= row.tokens)
                for o in self.rows
            )
        }
        return tuple(sorted(efficient | {Intensity(0), Intensity(1)}))

    def snap(self, intensity: Intensity) -> Intensity:
        """Find the grid's λ nearest to ``intensity`` (ties go up: thinking a little more is the safer error)."""
        grid = self.grid
        return min(grid, key=lambda g: (abs(g - intensity), -g)) if grid else intensity

    def in_valley(self, intensity: Intensity) -> bool:
        """Tell whether the measured λ nearest to this one is beaten beyond its interval by one at no more tokens.

        Nothing was measured of a λ per module.
        """
        if not self.rows or isinstance(intensity, ModuleIntensity):
            return False
        row = min(self.rows, key=lambda r: abs(r.intensity - intensity))
        return any(
            o.tokens <= row.tokens and o.accuracy - row.accuracy > max(row.accuracy_ci, o.accuracy_ci)
            for o in self.rows
        )

    def for_effort(self, effort: str) -> Intensity:
        """Map an effort name to the best measured λ whose tokens stay within its share of the way Instruct -> Thinking.

        From ``low`` on it is above 0, even where the first λ that thinks takes more than that share.

        Raises:
            InvalidIntensity: if the name is none of :data:`EFFORTS`.
        """
        if effort not in _EFFORT_SHARE:
            raise InvalidIntensity(
                f"unknown reasoning_effort {effort!r}",
                hint=f"use one of {', '.join(EFFORTS)}",
            )
        if not self.rows or effort in ("none", "max"):
            return Intensity(_EFFORT_UNMEASURED[effort])
        first, last = self.rows[0].tokens, self.rows[-1].tokens
        allowed = first + _EFFORT_SHARE[effort] * (last - first)
        grid = set(self.grid)
        affordable = [r for r in self.rows if r.intensity in grid and r.tokens <= allowed + 1e-9]
        found = max(affordable, key=lambda r: (r.accuracy, -r.tokens), default=self.rows[0]).intensity
        thinking = [r for r in self.rows if r.intensity in grid and r.intensity > 0]
        if float(found) == 0.0 and effort != "minimal" and thinking:
            return min(thinking, key=lambda r: r.tokens).intensity
        return found

    @property
    def reply_limit(self) -> int | None:
        """Compute the cap where nobody set one: tokens no reply of this pair normally comes near; None: unmeasured.

        It is :data:`LONGEST_TIMES` the mean of the kind of question that takes the most, or :data:`MEAN_TIMES` the mean
        of all where kinds are not told apart, at the λ that writes the most, and at least :data:`LEAST_LIMIT`.
        """
        if not self.rows:
            return None
        most = max(max(LONGEST_TIMES * row.longest, 0 if row.longest else MEAN_TIMES * row.tokens) for row in self.rows)
        return max(LEAST_LIMIT, math.ceil(most))

    def prefix_for(self, mode: PrefixMode) -> Intensity | None:
        """Return the λ at which a prompt is read, all but its last token; None: that of the reply."""
        if mode == "shared" and self.prefix_intensity is None:
            return Intensity(1)
        return None if mode == "exact" else self.prefix_intensity

    def template(self, intensity: Intensity) -> Template:
        """Choose Instruct's chat template at λ=0 and up to the switch point, Thinking's above it and per module."""
        if isinstance(intensity, ModuleIntensity):  # the switch point was measured with one λ for all modules
            return "thinking"
        return "instruct" if float(intensity) == 0.0 or intensity <= self.switch_point else "thinking"
