"""Pictures of what was measured: the frontier along λ and by level, and agents' accuracy against their budgets.

Needs matplotlib, the extra ``[report]``. Equal results give equal bytes. Colours are of the palette of Okabe and Ito
(2008), which people with any colour vision can tell apart; lines differ in their markers too. The background is opaque.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from builtin_pair.acceptance.tables import ENDS
from dami_agent.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "dami-agent",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}


def picture(sweep: Mapping[str, Any]) -> str:
    """Draw the SVG of a sweep's JSON: accuracy and tokens along λ, and by level at both ends and in the middle.

    Raises:
        UsageError: matplotlib is not installed.
    """
    with _styled() as new_figure:
        figure = new_figure(8.4, 5.2)
        (accuracy, by_level), (tokens, tokens_by_level) = figure.subplots(2, 2, sharex="col")
        _along(accuracy, sweep["rows"], "accuracy", BLUE)
        accuracy.set(ylabel="accuracy", ylim=(0, 1.02), title="along λ")
        _along(tokens, sweep["rows"], "tokens", ORANGE)
        tokens.set(ylabel="output tokens", xlabel="λ (0: Instruct, 1: Thinking)")
        tokens.set_ylim(bottom=0)
        _levels(by_level, sweep, "by_level")
        by_level.set(ylim=(0, 1.02), title="by level of difficulty")
        by_level.legend(loc="lower left")
        _levels(tokens_by_level, sweep, "tokens_by_level")
        tokens_by_level.set(xlabel="level", xticks=sweep["levels"])
        tokens_by_level.set_ylim(bottom=0)
        told = (
            f"{sweep['questions']:,} held-out questions, {sweep['seeds']} seeds, temperature {sweep['temperature']:g}"
        )
        return _svg(figure, f"{sweep['pair']}: {told}; bars and bands: 95 % intervals")


def budget_picture(curve: Mapping[str, Any]) -> str:
    """Draw the SVG of a budget curve's JSON: tasks solved against the thought of a run, a panel for each scope.

    Raises:
        UsageError: matplotlib is not installed.
    """
    scopes = list(dict.fromkeys(point["scope"] for point in curve["points"]))
    with _styled() as new_figure:
        figure = new_figure(8.4, 3.2)
        panels = figure.subplots(1, len(scopes), sharey=True, squeeze=False)[0]
        for axes, scope in zip(panels, scopes, strict=True):
            _under_budgets(axes, curve, [point for point in curve["points"] if point["scope"] == scope])
            axes.set(title=f"a budget per {scope}", xlabel="tokens of thought that a task took")
        panels[0].set(ylabel="share of tasks solved")
        panels[-1].legend(loc="lower right")
        return _svg(figure, f"{curve['pair']}: {curve['tasks']} agent tasks; bars: 95 % intervals; ×: no budget")


@contextmanager
def _styled() -> Iterator[Callable[[float, float], Figure]]:
    """Give a maker of figures of a width and height in inches, in our style."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UsageError(f"plots need matplotlib ({error})", hint='pip install "dami-agent[report]"') from error
    with rc_context(STYLE):
        yield lambda width, height: Figure(figsize=(width, height), facecolor="white", layout="constrained")


def _svg(figure: Figure, note: str) -> str:
    """Put a note below a figure and return its SVG, the same bytes each time."""
    figure.supxlabel(note, fontsize=7.5, color="#555555")
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n"


def _under_budgets(axes: Axes, curve: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> None:
    """Draw each arm's tasks solved against the thought it took, budget by budget."""
    looks = ((BLUE, "o"), (ORANGE, "^"), (GREEN, "s"))
    for name, (colour, marker) in zip(points[0]["arms"], looks, strict=False):
        arms = sorted((point["arms"][name] for point in points), key=lambda arm: arm["thought_per_task"])
        axes.errorbar(
            [arm["thought_per_task"] for arm in arms],
            [arm["solved"] / curve["tasks"] for arm in arms],
            yerr=[arm["solved_ci"] / curve["tasks"] for arm in arms],
            color=colour,
            marker=marker,
            markersize=4,
            capsize=2,
            label=name.replace("lambda", "λ"),
        )
    free = curve["auto"]
    axes.plot([free["thought_per_task"]], [free["solved"] / curve["tasks"]], color=BLUE, marker="x")


def _along(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, colour: str) -> None:
    at = [row["lambda"] for row in rows]
    values = [row[name] for row in rows]
    half = [row[f"{name}_ci"] or 0.0 for row in rows]
    axes.fill_between(
        at,
        [value - h for value, h in zip(values, half, strict=True)],
        [value + h for value, h in zip(values, half, strict=True)],
        color=colour,
        alpha=0.2,
        linewidth=0,
    )
    axes.plot(at, values, color=colour, marker="o", markersize=4)


def _levels(axes: Axes, sweep: Mapping[str, Any], name: str) -> None:
    rows = [row for row in sweep["rows"] if f"{row['lambda']:g}" in ENDS]
    looks = ((BLUE, "o", -0.05), (GREEN, "s", 0.0), (ORANGE, "^", 0.05))  # a little apart, so that intervals show
    for row, (colour, marker, aside) in zip(rows, looks, strict=False):
        levels = [level for level in sweep["levels"] if str(level) in row[name]]
        axes.errorbar(
            [level + aside for level in levels],
            [row[name][str(level)] for level in levels],
            yerr=[row[f"{name}_ci"][str(level)] or 0.0 for level in levels],
            color=colour,
            marker=marker,
            markersize=4,
            capsize=2,
            label=f"λ={row['lambda']:g}",
        )
