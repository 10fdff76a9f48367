"""The page in a headless Chromium: its numbers, filters, themes, width, and what it asks the network for."""

from __future__ import annotations

import dataclasses
import random
import zlib
from collections.abc import Callable
from datetime import timedelta

import pytest

from dami_agent.ledger import CallRow
from dami_agent.report import Saved
from tests.report.conftest import Browser
from tests.report.rows import make_row, make_rows, many_rows
from tests.report.test_page import HOSTILE

pytestmark = pytest.mark.timeout(600)
TAB, ENTER, DOWN, UP, END, ESCAPE, SPACE = "\ue004", "\ue007", "\ue015", "\ue013", "\ue010", "\ue00c", " "


def number(text: str) -> int:
    return int(text.replace(",", ""))


def card(browser: Browser, name: str) -> str:
    return browser.text(f'#totals [data-name="{name}"] .number')


def check_totals(browser: Browser, rows: list[CallRow]) -> None:
    assert number(card(browser, "Calls")) == len(rows)
    assert number(card(browser, "Output tokens")) == sum(r.output_tokens for r in rows)
    assert number(card(browser, "Prompt tokens")) == sum(r.prompt_tokens for r in rows)


def focused(browser: Browser) -> str:
    return str(browser.script("const e = document.activeElement; return e.name || e.id || e.textContent"))


def tab_to(browser: Browser, name: str) -> None:
    """Press Tab until the element called ``name`` has the focus."""
    for _ in range(40):
        browser.keys(TAB)
        if focused(browser) == name:
            return
    pytest.fail(f"{name} cannot be reached by Tab")


def test_numbers_are_the_ledgers(browser: Browser) -> None:
    rows = make_rows(300, random.randrange(10**6))
    browser.show(rows)
    check_totals(browser, rows)
    assert browser.text("#matches") == "300 calls"
    keys: dict[str, Callable[[CallRow, int], str]] = {
        "#by-tool": lambda r, _: r.charged_to or "answer",
        "#by-node": lambda r, _: r.node or "none",
        "#by-step": lambda r, at: str(at),
    }
    calls: dict[str, list[str]] = {}
    ordinals = []
    for row in rows:
        seen = calls.setdefault(row.run, [])
        if row.call_id not in seen:
            seen.append(row.call_id)
        ordinals.append(seen.index(row.call_id) + 1)
    browser.script("document.querySelectorAll('#by-step > button').forEach(b => b.click())")
    for box, key in keys.items():
        groups: dict[str, list[CallRow]] = {}
        for row, at in zip(rows, ordinals, strict=True):
            groups.setdefault(key(row, at), []).append(row)
        shown = {line[0]: line for line in browser.table(box)}
        assert shown.keys() == groups.keys()
        for name, members in groups.items():
            columns = ("output_tokens", "reasoning_tokens", "answer_tokens", "prompt_tokens")
            sums = [sum(getattr(r, column) for r in members) for column in columns]
            sums.insert(3, sum(r.probe_tokens + (r.discarded_tokens or 0) for r in members))
            assert [number(shown[name][at]) for at in (1, 3, 4, 5, 6, 7)] == [len(members), *sums]
    slowest = sorted(rows, key=lambda r: -r.seconds)[:8]
    shown_seconds = [float(line[1].split()[0]) for line in browser.table("#slowest")]
    assert shown_seconds == pytest.approx([r.seconds for r in slowest], abs=0.006)
    assert browser.messages() == []


def test_groups_that_a_step_may_be_in_several_of(browser: Browser) -> None:
    names, tags, users = ("nightly", "digest", "report"), ("a", "b"), ("ann", "bob", None)
    rows = [
        dataclasses.replace(
            row,
            trace_names=tuple(random.sample(names, random.randint(0, 2))),
            run_name=random.choice([*names, None]),
            tags=tuple(random.sample(tags, random.randint(0, 2))),
            metadata={"user_id": random.choice(users)},
            tools_called=tuple(random.choices(("search", "add"), k=random.randint(0, 2))),
            started_at=row.started_at + timedelta(days=random.randrange(3)),
        )
        for row in make_rows(200, random.randrange(10**6))
    ]
    browser.show(rows)
    keys: dict[str, Callable[[CallRow], tuple[str, ...]]] = {
        "#by-called": lambda r: r.tools_called or ("answer",),
        "#by-name": lambda r: r.names or ("none",),
        "#by-tag": lambda r: r.tags or ("none",),
        "#by-user": lambda r: (r.user or "none",),
        "#by-day": lambda r: (r.started_at.astimezone().date().isoformat(),),
    }
    for box, keys_of in keys.items():
        groups: dict[str, list[CallRow]] = {}
        for row in rows:
            for key in set(keys_of(row)):
                groups.setdefault(key, []).append(row)
        shown = {line[0]: (number(line[1]), number(line[3])) for line in browser.table(box)}
        assert shown == {key: (len(each), sum(r.output_tokens for r in each)) for key, each in groups.items()}, box
    browser.script("document.querySelector('#by-user .link').click()")
    assert browser.messages() == []


def test_cards_of_what_nobody_gave_are_not_shown(browser: Browser) -> None:
    browser.show([dataclasses.replace(row, metadata={}, tags=(), run_name=None) for row in make_rows(20, 1)])
    hidden = (
        "return Array.from(document.querySelectorAll('#found section[hidden]'), e => e.getAttribute('aria-labelledby'))"
    )
    assert browser.script(hidden) == ["h-name", "h-tag", "h-user"]


@pytest.mark.parametrize(
    ("kept", "text", "says"),
    [
        (True, True, "contains the prompts, thoughts and answers"),
        (True, False, "on record, but not in this page"),
        (False, True, "not on record"),
    ],
)
def test_the_page_says_whether_it_holds_texts(browser: Browser, kept: bool, text: bool, says: str) -> None:
    browser.show([make_row(prompt_text="SECRET QUESTION" if kept else None)], text=text)
    assert says in browser.text("#texts")
    assert ("SECRET" in browser.script("return document.documentElement.outerHTML")) == (kept and text)


def test_saved_says_against_what(browser: Browser) -> None:
    rows = make_rows(200, random.randrange(10**6))
    tokens = [random.choice([None, 60.5, 109.25, -8.0]) for _ in rows]
    browser.show(rows, saved=Saved(tokens=tokens, baseline="BASE <b>", method="expected, not measured"))
    known = [(row, t) for row, t in zip(rows, tokens, strict=True) if t is not None]
    saved = sum(t for _, t in known)
    assert number(card(browser, "Saved, expected").removesuffix(" tokens")) == pytest.approx(saved, abs=0.51)
    text = browser.text('#totals [data-name="Saved, expected"]')
    assert "BASE <b>; expected, not measured" in text
    assert f"{saved + sum(row.output_tokens for row, _ in known):,.0f}"[:-1] in text
    assert f"{len(rows) - len(known)} calls left out" in text
    browser.show(rows)
    assert card(browser, "Saved") == "–"
    browser.show(rows, saved=Saved(tokens=[-1.0] * len(rows), baseline="b", method="m"))
    assert card(browser, "Expected to cost more") == "200 tokens"


def test_filters_by_keyboard(browser: Browser) -> None:
    rows = make_rows(300, random.randrange(10**6))
    browser.show(rows)

    def expect(kept: list[CallRow]) -> None:
        browser.until(lambda: browser.text("#matches") == f"{len(kept)} of 300 calls")
        check_totals(browser, kept)

    tab_to(browser, "text")
    browser.keys("snapped 0.8")
    kept = [r for r in rows if r.reason and "0.8" in r.reason]
    expect(kept)
    tab_to(browser, "node")
    browser.keys("agent")
    kept = [r for r in kept if r.node == "agent"]
    expect(kept)
    tab_to(browser, "Clear")
    browser.keys(ENTER)
    browser.until(lambda: browser.text("#matches") == "300 calls")
    browser.keys(TAB)
    browser.script("document.body.tabIndex = -1; document.body.focus()")
    tab_to(browser, "run")
    browser.keys(rows[0].run[:6].upper())
    expect([r for r in rows if r.run.startswith(rows[0].run[:6])])
    browser.script("document.querySelector('#filters').reset()")
    tab_to(browser, "tool")
    browser.keys("weather")
    expect([r for r in rows if "weather" in (r.charged_to, *r.tools_called, *r.tools_digested)])
    browser.script("document.querySelector('#filters').reset()")
    tab_to(browser, "from")
    browser.keys("0.5", TAB, "0.6")
    expect([r for r in rows if r.intensity is not None and 0.5 <= r.intensity <= 0.6])


def test_nothing_passes_the_filters(browser: Browser) -> None:
    rows = make_rows(20, 0)
    browser.show(rows)
    tab_to(browser, "text")
    browser.keys("no such thing")
    browser.until(lambda: not browser.script("return document.querySelector('#none').hidden"))
    assert "No call passes" in browser.text("#none")
    tab_to(browser, "Clear the filters")
    browser.keys(SPACE)
    browser.until(lambda: browser.text("#matches") == "20 calls")
    check_totals(browser, rows)


def test_a_bar_of_the_histogram_filters(browser: Browser) -> None:
    rows = make_rows(200, random.randrange(10**6))
    browser.show(rows)
    browser.script("document.querySelector('.column[aria-label^=\"λ about 0.5:\"]').focus()")
    browser.keys(ENTER)
    half = [r for r in rows if r.intensity == 0.5]
    assert browser.text("#matches") == f"{len(half)} of 200 calls"


def test_runs_open_into_their_steps(browser: Browser) -> None:
    rows = make_rows(60, random.randrange(10**6))
    browser.show(rows)
    newest = [r for r in rows if r.run == rows[-1].run]
    browser.script("document.querySelector('.opener').focus()")
    browser.keys(ENTER)
    assert browser.script("return document.activeElement.getAttribute('aria-expanded')") == "true"
    steps = browser.table(".steps:not([hidden])")
    assert [(line[1], number(line[5]), number(line[7])) for line in steps] == [
        (r.node, r.prompt_tokens, r.answer_tokens) for r in newest
    ]
    browser.keys(TAB, TAB, ENTER)  # the table, then its first step
    assert browser.script("return document.querySelector('#detail').open")
    assert newest[0].call_id in browser.text("#detail")
    assert browser.text('#detail [data-name="considered"]') if newest[0].considered else True
    browser.keys(ESCAPE)
    assert not browser.script("return document.querySelector('#detail').open")
    assert focused(browser) == "1"


def test_the_table_of_calls_by_keyboard(browser: Browser) -> None:
    rows = make_rows(400, random.randrange(10**6))
    browser.show(rows)
    browser.script("document.querySelector('#calls tbody button[tabindex=\"0\"]').focus()")
    browser.keys(DOWN, DOWN, UP)
    assert browser.script("return document.activeElement.dataset.at") == "1"
    browser.keys(END)
    assert browser.script("return document.activeElement.dataset.at") == "399"
    assert browser.script("return document.querySelectorAll('#calls tbody tr').length") < 60
    browser.keys(ENTER)
    assert browser.text('#detail [data-name="call_id"]') == rows[0].call_id
    browser.keys(ESCAPE)
    assert browser.script("return document.activeElement.dataset.at") == "399"
    browser.script("Array.from(document.querySelectorAll('.sort')).find(b => b.textContent === 'Time').focus()")
    browser.keys(ENTER)
    assert browser.script("return document.activeElement.textContent") == "Time ↓"
    first = browser.script("return document.querySelector('#calls tbody tr[aria-rowindex=\"2\"]').cells[9].textContent")
    assert float(first.split()[0]) == pytest.approx(max(r.seconds for r in rows), abs=0.006)


def test_text_from_the_ledger_stays_text(browser: Browser) -> None:
    names = ("node", "charged_to", "model", "reason", "error", "error_type", "prompt_text", "root_run_id", "thread_id")
    hostile = dict.fromkeys(names, HOSTILE)
    rows = [make_row(**hostile, call_id=str(i), tools_called=(HOSTILE,), tags=(HOSTILE,)) for i in range(3)]
    browser.show(rows, ledger=HOSTILE)
    browser.script("document.querySelector('.opener').click(); document.querySelector('#calls tbody button').click()")
    for place in (
        "#by-tool",
        "#by-node",
        "#timeline",
        ".steps",
        "#calls",
        '#detail [data-name="prompt_text"]',
        "#about",
    ):
        assert HOSTILE.split("&")[0] in browser.text(place)
    assert browser.script("return window.hacked === undefined && document.querySelectorAll('img').length === 0")
    assert browser.script("return document.scripts.length") == 2
    assert browser.messages() == []


def test_no_request_but_for_the_file_itself(browser: Browser) -> None:
    browser.requests()
    url = browser.show(make_rows(40, 1))
    browser.script("document.querySelector('.opener').click()")
    assert set(browser.requests()) == {url}
    blocked = "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s)"
    assert browser.script(f"{blocked}; return window.hacked === undefined")
    assert any("Content Security Policy" in message for message in browser.messages())


def background(png: bytes) -> tuple[int, int, int]:
    """The top-left pixel of an 8-bit RGB or RGBA PNG."""
    row = zlib.decompressobj().decompress(png[png.index(b"IDAT") + 4 :], 16)  # a filter's number, then pixels
    return row[1], row[2], row[3]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(browser: Browser, scheme: str) -> None:
    browser.show(make_rows(120, 5), scheme=scheme)
    first = background(browser.screenshot(scheme))
    assert (sum(first) > 600) == (scheme == "light")
    assert (sum(first) < 100) == (scheme == "dark")
    tab_to(browser, "theme")
    browser.keys(ENTER)
    other = background(browser.screenshot(f"{scheme}-turned"))
    assert (sum(other) > 600) == (scheme == "dark")
    assert browser.messages() == []


@pytest.mark.parametrize("width", [390, 768, 1360])
def test_nothing_is_wider_than_the_window(browser: Browser, width: int) -> None:
    rows = [*make_rows(120, 5), make_row(call_id="x" * 300, root_run_id="r" * 300, node="n" * 300, error="e" * 900)]
    browser.show(rows, width=width, ledger="l" * 200)
    browser.script("document.querySelectorAll('.opener').forEach(b => b.click())")
    browser.screenshot(f"width-{width}")
    assert browser.script("return document.documentElement.scrollWidth") <= width
    browser.script("document.querySelector('#calls tbody button').click()")
    assert browser.script("const d = document.querySelector('#detail'); return d.scrollWidth <= d.clientWidth")


def test_an_empty_ledger_says_what_to_do(browser: Browser) -> None:
    browser.show([])
    assert "No calls on record yet" in browser.text("#none")
    assert "dami demo" in browser.text("#none")
    assert browser.script("return document.querySelector('#filters').hidden && document.querySelector('#found').hidden")
    assert browser.messages() == []


def test_a_hundred_thousand_calls(browser: Browser, record_property: Callable[[str, object], None]) -> None:
    rows = many_rows(100_000, 11)
    browser.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    browser.show(rows)
    metrics = {m["name"]: m["value"] for m in browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}
    drawn = float(browser.script("return document.documentElement.dataset.drawn")) / 1000
    record_property("drawn_seconds", drawn)
    record_property("processor_seconds", metrics["TaskDuration"])
    print(f"100,000 calls: drawn after {drawn:.2f} s, of which {metrics['TaskDuration']:.2f} s of processor time")
    assert metrics["TaskDuration"] < 3  # not wall time: that depends on what else the machine does
    check_totals(browser, rows)
    assert browser.script("return document.querySelectorAll('*').length") < 5_000
    browser.script("document.querySelector('.calls').scrollTop = 1e9")
    last = f'#calls tbody tr[aria-rowindex="{len(rows) + 1}"]'
    browser.until(lambda: browser.script("return Boolean(document.querySelector(arguments[0]))", last))
    tab_to(browser, "text")
    browser.keys(rows[77].call_id)
    browser.until(lambda: browser.text("#matches") == "1 of 100,000 calls")


def test_cost_is_by_currency_and_ranks_the_steps(browser: Browser) -> None:
    rows = [make_row(call_id=str(i), root_run_id="run", node="n", cost=i / 1000, currency="EUR") for i in range(20)]
    browser.show([*rows, make_row(call_id="free", root_run_id="run")])
    assert card(browser, "Cost") == "0.19 EUR"
    assert "20 priced calls" in browser.text('#totals [data-name="Cost"]')
    assert [line[1] for line in browser.table("#costliest")][:2] == ["0.019 EUR", "0.018 EUR"]
    assert {line[0]: line[-1] for line in browser.table("#by-node")} == {"n": "0.19 EUR", "none": "–"}
    browser.show([*rows, make_row(call_id="other", root_run_id="run", cost=2.5, currency="USD")])
    assert card(browser, "Cost") == "0.19 EUR, 2.50 USD"
    assert browser.script("return document.querySelector('#costliest thead').textContent").startswith("StartedTokens")


def test_attempts_share_a_step(browser: Browser) -> None:
    rows = [make_row(call_id="a", attempt=i, root_run_id="run", error_type="OutputInvalid") for i in range(2)]
    rows += [make_row(call_id="a", attempt=2, root_run_id="run"), make_row(call_id="b", root_run_id="run")]
    browser.show(rows)
    assert browser.texts(".facts span")[0] == "2 steps"
    assert "2 failed" in browser.texts(".facts span")
    browser.script("document.querySelector('.opener').click()")
    assert [line[0] for line in browser.table(".steps")] == ["1", "1, attempt 2", "1, attempt 3", "2"]
    assert [line[-1] for line in browser.table(".steps")][:2] == ["OutputInvalid"] * 2
    assert {line[0]: line[1] for line in browser.table("#by-step")} == {"1": "3", "2": "1"}


def test_steps_at_the_same_time_lie_in_lanes(browser: Browser) -> None:
    rows = [
        make_row(call_id=str(i), root_run_id="run", intensity=0.0, seconds=2.0, answer_tokens=5, output_tokens=5)
        for i in range(3)
    ]
    browser.show(rows)
    filled = """
        const canvas = document.querySelector('.strip'), pen = canvas.getContext('2d');
        const column = pen.getImageData(4, 0, 1, canvas.height).data;
        return Array.from({length: canvas.height}, (_, y) => column[4 * y + 3] > 0 ? '#' : '.').join('')
    """
    assert "." not in browser.script(filled)  # by tokens: one after another, each as high as the strip
    browser.script(
        "const s = document.querySelector('#run-scale'); s.value = 'seconds';"
        "s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    browser.until(lambda: browser.script(filled).strip(".").count("#.") == 2)


def test_tokens_and_cost_of_every_group_are_in_sight(browser: Browser) -> None:
    rows = [dataclasses.replace(row, cost=row.output_tokens / 1e4, currency="EUR") for row in make_rows(300, 8)]
    browser.show(rows, width=1280)
    for box in ("by-tool", "by-node", "by-step"):
        assert "Cost" in browser.texts(f"#{box} th")
        fits = "const t = document.querySelector(arguments[0]); return t.scrollWidth <= t.clientWidth + 1"
        assert browser.script(fits, f"#{box} > *"), box
