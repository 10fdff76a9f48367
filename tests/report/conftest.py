"""A headless Chromium, steered by Selenium; tests that need it skip where there is none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dami_agent.ledger import CallRow
from dami_agent.policy import Frontier
from dami_agent.report import ReportSource, Saved, render

FRONTIER = Frontier.from_dict(
    {
        "pair": "dami-builtin",
        "rows": [
            {"lambda": 0, "accuracy": 0.25, "accuracy_ci": 0.02, "tokens": 7.25},
            {"lambda": 0.5, "accuracy": 0.8, "accuracy_ci": 0.02, "tokens": 80},
            {"lambda": 1, "accuracy": 0.99, "accuracy_ci": 0.01, "tokens": 116.5},
        ],
    },
    source="frontier.json",
)
FLAGS = ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en-US")


class Browser:
    """What the tests do with a page."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver, self.folder = driver, folder
        self.opened = 0

    def show(
        self,
        rows: list[CallRow],
        *,
        width: int = 1360,
        scheme: str = "light",
        ledger: str = "ledger.sqlite",
        saved: Saved | None = None,
        text: bool = True,
    ) -> str:
        """Render a page, open it, wait until it is drawn; its URL."""
        self.look(width, scheme)
        self.opened += 1
        file = self.folder / f"page-{self.opened}.html"
        file.write_text(render(rows, ReportSource(ledger=ledger), FRONTIER, saved, text=text), encoding="utf-8")
        self.messages()
        self.driver.get(file.as_uri())
        self.until(lambda: self.script("return document.documentElement.dataset.drawn"))  # a large file loads in parts
        return file.as_uri()

    def look(self, width: int, scheme: str) -> None:
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def text(self, selector: str) -> str:
        return str(self.script("return document.querySelector(arguments[0]).textContent", selector))

    def texts(self, selector: str) -> list[str]:
        code = "return Array.from(document.querySelectorAll(arguments[0]), e => e.textContent)"
        return list(self.script(code, selector))

    def table(self, selector: str) -> list[list[str]]:
        """Cells of the body of the table in ``selector``."""
        cells = "r => Array.from(r.cells, c => c.textContent)"
        code = f"return Array.from(document.querySelectorAll(arguments[0] + ' tbody tr'), {cells})"
        return list(self.script(code, selector))

    def keys(self, *keys: str) -> None:
        """Typed at whatever has the focus."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def until(self, condition: Callable[[], Any]) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 30, 0.05).until(lambda _: condition())

    def screenshot(self, name: str) -> bytes:
        """PNG of what is in sight; kept under ``name`` in the test's folder for people to look at."""
        png: bytes = self.driver.get_screenshot_as_png()
        (self.folder / f"{name}.png").write_bytes(png)
        return png

    def messages(self) -> list[str]:
        """What the browser complained about since it was last asked: script errors, breaches of the page's policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """URLs asked for since this was last asked."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    started.set_page_load_timeout(120)
    try:
        yield Browser(started, tmp_path_factory.mktemp("pages"))
    finally:
        started.quit()
