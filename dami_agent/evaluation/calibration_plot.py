"""Draw a frontier: accuracy against output tokens, one point a λ. Needs matplotlib, the extra ``[report]``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dami_agent.errors import UsageError
from dami_agent.policy import Frontier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["blank", "draw"]


def draw(frontier: Mapping[str, Any], path: Path) -> None:
    """Draw the frontier's λs with their intervals, those of the grid joined by a line.

    Args:
        frontier: as ``dami calibrate`` writes it.
        path: of the picture; its ending says which kind.

    Raises:
        UsageError: matplotlib is not installed, or does not know such pictures.
    """
    figure = blank(path)
    axes = figure.subplots()
    grid = set(map(float, Frontier.from_dict(frontier).grid))
    efficient = [row for row in frontier["rows"] if row["lambda"] in grid]
    axes.plot([row["tokens"] for row in efficient], [row["accuracy"] for row in efficient], color="#0072B2")
    for row in [*frontier["rows"], *frontier.get("left_out", ())]:
        colour = "#0072B2" if row["lambda"] in grid else "#999999"
        axes.errorbar(row["tokens"], row["accuracy"], yerr=row["accuracy_ci"], fmt="o", color=colour, capsize=3)
        axes.annotate(f"λ={row['lambda']:g}", (row["tokens"], row["accuracy"]), (5, -11), textcoords="offset points")
    axes.set(xlabel="output tokens", ylabel="accuracy", title=f"{frontier['pair']}, {frontier['questions']:,} prompts")
    axes.grid(color="#dddddd")
    figure.savefig(path)


def blank(path: Path) -> Figure:
    """Make the empty picture: whether it can be drawn is known before anything is measured.

    Args:
        path: of the picture.

    Raises:
        UsageError: matplotlib is not installed, or does not know such pictures.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UsageError(f"plots need matplotlib ({error})", hint='pip install "dami-agent[report]"') from error
    figure = Figure(figsize=(6.4, 4.2), facecolor="white", layout="constrained")
    if path.suffix.removeprefix(".").lower() not in figure.canvas.get_supported_filetypes():
        raise UsageError(f"cannot draw {path}", hint="name an .svg or a .png")
    return figure
