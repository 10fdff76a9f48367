"""Draw rows as HTML for a notebook: a bar per step, and a table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from dami_agent.ledger.row import CallRow
from dami_agent.ledger.summary import totals

if TYPE_CHECKING:
    from jinja2 import Template

MOST = 200  # steps shown; a notebook cell is no report
WIDTH, BAR, GAP, LABEL = 640, 14, 4, 120  # pixels

SOURCE = """\
<div style="font-family: sans-serif; font-size: 13px; overflow-x: auto">
<p><b>{{ name or "trace" }}</b>: {{ sums.calls }} calls{% if sums.failed %}, {{ sums.failed }} failed{% endif %},
{{ sums.prompt_tokens }} prompt + {{ sums.output_tokens }} output tokens
({{ sums.output_tokens - sums.answer_tokens }} thought), {{ "%.2f" % sums.seconds }} s
{%- for currency, amount in sums.cost.items() %}, {{ "%.6g" % amount }} {{ currency }}{% endfor %}</p>
{% if left_out %}<p>{{ left_out }} earlier steps are not shown.</p>{% endif %}
{% if bars %}
<svg role="img" aria-label="tokens of each step: prompt, thought, answer; coloured by λ"
     viewBox="0 0 {{ width }} {{ height }}" width="{{ width }}" height="{{ height }}" style="max-width: 100%">
{% for bar in bars %}<g><title>{{ bar.title }}</title>
<text x="0" y="{{ bar.y + 11 }}" font-size="11" fill="currentColor">{{ bar.label }}</text>
{% for part in bar.parts %}<rect x="{{ part.x }}" y="{{ bar.y }}" width="{{ part.width }}" height="{{ bar_height }}"
 fill="{{ part.colour }}" fill-opacity="{{ part.opacity }}"/>{% endfor %}</g>
{% endfor %}</svg>
<p><small>A bar per step: prompt (grey), thought (full colour), answer (pale);
blue is λ = 0, orange λ = 1.</small></p>
{% endif %}
<table><thead><tr>{% for title in titles %}<th scope="col">{{ title }}</th>{% endfor %}</tr></thead><tbody>
{% for cells in table %}<tr>{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
</div>
"""

TITLES = ("step", "node", "read", "called", "λ", "why", "prompt", "thought", "answer", "s", "end")


def html(name: str, rows: Sequence[CallRow]) -> str:
    """Return one ``<div>`` that needs no script and no network; every text in it is escaped."""
    shown = rows[-MOST:]
    return _template().render(
        name=name,
        sums=totals(rows),
        left_out=len(rows) - len(shown),
        bars=_bars(shown),
        width=WIDTH,
        height=len(shown) * (BAR + GAP),
        bar_height=BAR,
        titles=TITLES,
        table=[_cells(row) for row in shown],
    )


@cache
def _template() -> Template:
    from jinja2 import Environment

    return Environment(autoescape=True).from_string(SOURCE)


def _cells(row: CallRow) -> tuple[object, ...]:
    return (
        row.id,
        row.node or "",
        ", ".join(row.tools_digested),
        ", ".join(row.tools_called),
        "" if row.used is None else f"{row.used:g}",
        row.reason or "",
        row.prompt_tokens,
        row.output_tokens - row.answer_tokens,
        row.answer_tokens,
        f"{row.seconds:.2f}",
        row.error_type or row.finish_reason or "",
    )


def _bars(rows: Sequence[CallRow]) -> list[dict[str, Any]]:
    longest = max((row.prompt_tokens + row.output_tokens for row in rows), default=0) or 1
    scale = (WIDTH - LABEL) / longest
    bars = []
    for n, row in enumerate(rows):
        thought, x = row.output_tokens - row.answer_tokens, float(LABEL)
        colour = _colour(row.intensity)
        parts = []
        pieces = ((row.prompt_tokens, "#888", 0.5), (thought, colour, 1), (row.answer_tokens, colour, 0.5))
        for tokens, fill, opacity in pieces:
            parts.append({"x": f"{x:.1f}", "width": f"{tokens * scale:.1f}", "colour": fill, "opacity": opacity})
            x += tokens * scale
        label = ", ".join(row.tools_digested) or row.node or ""
        at = row.intensity_modules or ("–" if row.intensity is None else row.intensity)
        bars.append(
            {
                "y": n * (BAR + GAP),
                "label": f"{row.id} {label[:16]}",
                "title": f"λ={at}: {row.reason or row.error or ''}",
                "parts": parts,
            }
        )
    return bars


def _colour(intensity: float | None) -> str:
    """Mix blue at λ = 0 to orange at λ = 1, of equal lightness; grey where the call failed before λ was chosen."""
    if intensity is None:
        return "#888"
    ends = ((59, 110, 200), (220, 110, 30))
    red, green, blue = (round(a + (b - a) * intensity) for a, b in zip(*ends, strict=True))
    return f"rgb({red},{green},{blue})"
