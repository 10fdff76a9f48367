"""A chat model whose engine was closed, or broke, gets a new one at its next call."""

from __future__ import annotations

from pathlib import Path

import pytest

from dami_agent import ChatDAMI
from dami_agent.errors import EngineClosed
from dami_agent.runtime import LocalEngine

QUESTION = "Start with 7. Add 5. What is the result?"


@pytest.mark.parametrize("how", ["closed", "broken"])
def test_the_next_call_opens_a_new_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    settings = {"reasoning_intensity": 0, "temperature": 0, "max_tokens": 24, "context_length": 700}
    model = ChatDAMI(ledger=tmp_path / "calls.sqlite", **settings)
    answer = model.invoke(QUESTION).content
    old = model.pipeline().engine
    assert isinstance(old, LocalEngine)
    if how == "closed":
        old.close()
    else:
        with monkeypatch.context() as patch:

            def panics(_: object) -> None:
                raise SystemExit("a panic")

            patch.setattr(type(old.worker), "expire", panics)
            with pytest.raises(EngineClosed, match="the engine broke: SystemExit: a panic"):
                model.invoke(QUESTION)
        assert old.worker.thread is not None
        old.worker.thread.join(30)
    assert old.closed
    assert model.invoke(QUESTION).content == answer
    new = model.pipeline().engine
    assert new is not old
    assert not getattr(new, "closed", True)
    new.close()
