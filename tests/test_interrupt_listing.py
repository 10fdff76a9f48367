"""Looking at the main thread never lets the garbage collector run: Python 3.11 would stand still (gh-106883)."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dami_agent import interrupts


@pytest.mark.parametrize("collecting", [True, False])
def test_no_collection_while_threads_are_listed(monkeypatch: pytest.MonkeyPatch, collecting: bool) -> None:
    seen: list[bool] = []

    def watched(real: Callable[[], Any]) -> Callable[[], Any]:
        def listing() -> Any:
            seen.append(gc.isenabled())
            return real()

        return listing

    monkeypatch.setattr(interrupts, "_WAITS", {(__name__, "test_no_collection_while_threads_are_listed")})
    monkeypatch.setattr(sys, "_current_frames", watched(sys._current_frames))
    monkeypatch.setattr(sys, "_current_exceptions", watched(sys._current_exceptions))
    was = gc.isenabled()
    try:
        gc.enable() if collecting else gc.disable()
        thread = threading.Thread(target=interrupts.waiting_interrupt)
        thread.start()
        thread.join()
        assert gc.isenabled() is collecting  # as whoever set it wants it
    finally:
        gc.enable() if was else gc.disable()
    assert seen == [False, False]
