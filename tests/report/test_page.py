"""The page as a file: whole, closed to the network, and nothing from the ledger is markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from dami_agent.errors import LedgerError
from dami_agent.report import ReportSource, render, write
from dami_agent.report.page import SCRIPTS
from tests.report.conftest import FRONTIER
from tests.report.rows import make_row, make_rows

ASSETS = Path(str(files("dami_agent.report"))) / "assets"
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>&amp;\u2028\u2029<!--"


def test_a_hostile_ledger_adds_no_markup() -> None:
    harmless, hostile = (
        render(
            [
                make_row(
                    node=t, tools_called=(t,), charged_to=t, model=t, error=t, error_type=t, reason=t, prompt_text=t
                )
            ],
            ReportSource(ledger=t, scope=t),
            FRONTIER,
            text=True,
        )
        for t in ("harmless", HOSTILE)
    )
    assert hostile.count("<") == harmless.count("<")
    (data,) = re.findall(r'id="data">(.*?)</script>', hostile, re.DOTALL)
    assert not set("<>&\u2028\u2029") & set(data)
    assert json.loads(data)["columns"]["prompt_text"] == {"all": HOSTILE}


def test_the_policy_admits_this_script_and_this_style_alone() -> None:
    page = render(make_rows(5, 0), ReportSource(ledger="x"), FRONTIER)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    sources = dict(part.strip().split(" ", 1) for part in policy.replace("&#39;", "'").split(";"))
    assert sources.keys() == {"default-src", "script-src", "style-src", "base-uri", "form-action"}
    for name, tag in (("script-src", "<script>"), ("style-src", "<style>")):
        (text,) = re.findall(rf"{tag}(.*?)</{tag[1:]}", page, re.DOTALL)
        assert sources[name] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert {sources[name] for name in ("default-src", "base-uri", "form-action")} == {"'none'"}


def test_nothing_is_fetched() -> None:
    page = render(make_rows(5, 0), ReportSource(ledger="x"), FRONTIER)
    assert set(re.findall(r"\w+://[^\s\"'`]*", page)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"<link|<img|<iframe|\bsrc=|@import|url\(|fetch\(|XMLHttpRequest|innerHTML|\beval\(", page)


def test_every_script_is_in_the_page() -> None:
    assert sorted(SCRIPTS) == sorted(file.name for file in ASSETS.glob("*.js"))


def test_totals_without_scripts_are_the_ledgers() -> None:
    rows = make_rows(200, 3)
    page = render(rows, ReportSource(ledger="x"))
    shown = dict(re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td>', page))
    assert shown["calls"] == "200"
    assert shown["output tokens"] == f"{sum(r.output_tokens for r in rows):,}"
    assert shown["prompt tokens"] == f"{sum(r.prompt_tokens for r in rows):,}"


def test_rules_that_never_matched_have_a_card() -> None:
    considered = ("tools.get_prise: digests get_prise, here none", "<b>: tags x missing", "late: step 9, here 1")
    rows = [make_row(policy="mine", rule="any", considered=considered), make_row(policy="mine", rule="late")]
    page = render(rows, ReportSource(ledger="x"))
    assert "<td>mine</td><td>tools.get_prise, &lt;b&gt;</td>" in page
    assert "Rules that never matched" not in render(rows[1:], ReportSource(ledger="x"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert write(path, make_rows(3, 0), ReportSource(ledger="x")) == path.stat().st_size
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(LedgerError, match="cannot write the report"):
        write(tmp_path / "nowhere" / "report.html", [], ReportSource(ledger="x"))
    with pytest.raises(LedgerError, match="cannot write the report"):
        write(tmp_path, [], ReportSource(ledger="x"))


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_told_apart_by_lightness_and_text_can_be_read() -> None:
    pairs = re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", (ASSETS / "report.css").read_text())
    style = {name: {"light": light, "dark": dark} for name, light, dark in pairs}
    ramps = re.findall(r"(light|dark): \[(.*?)\]", (ASSETS / "colour.js").read_text())
    assert [name for name, _ in ramps] == ["light", "dark"]
    for theme, listed in ramps:
        ramp = re.findall(r"#\w+", listed)
        steps = [luminance(colour) for colour in ramp]
        assert steps == sorted(steps, reverse=theme == "light")
        assert all(contrast(colour, style["panel"][theme]) >= 3 for colour in ramp)
        for text in ("text", "quiet", "accent", "bad"):
            assert all(
                contrast(style[text][theme], style[ground][theme]) >= 4.5 for ground in ("page", "panel", "soft")
            )
