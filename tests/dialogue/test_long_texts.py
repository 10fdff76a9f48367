"""A megabyte of text from one caller: refused before it is encoded, or encoded while other threads run."""

from __future__ import annotations

import threading
import time
from random import Random
from typing import Any

import pytest
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from dami_agent.dialogue import control
from dami_agent.dialogue.control import ControlGuard
from dami_agent.errors import ContextOverflow
from dami_agent.testing import fake_chat_model
from tests.chance import SEED

from .support import MARKERS, SPECIAL, TOKENIZER, build_tokenizer, metaspace_tokenizer

MEGABYTE = 10**6
MOST_SECONDS = 0.2  # that no other thread runs; before, 1.3 to 8.9 s
GUARD = ControlGuard(TOKENIZER)
NASTY = [*MARKERS, *SPECIAL, "<", "<|", "</thi", "nk>", "a", "é", "日本", "\n", " ", "İ", "\\ue000", "\ue001", "🙂"]


def random_text(random: Random, pieces: int) -> str:
    return "".join(random.choice(NASTY) for _ in range(pieces))


@pytest.mark.parametrize("window", [1, 2, 13, 64])
def test_windows_find_what_one_search_finds(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(SEED)
    texts = [random_text(random, random.randrange(60)) for _ in range(40)]
    markers = [sorted(random.sample(range(len(text) + 1), min(3, len(text)))) for text in texts]

    def found() -> list[Any]:
        escaper = control.ControlEscaper(GUARD, "\ue001")
        return [
            (sorted(GUARD.marker_positions(text)), GUARD.control_spans(text, places), escaper.split(text))
            for text, places in zip(texts, markers, strict=True)
        ]

    whole = found()
    monkeypatch.setattr(control, "_WINDOW", window)
    assert found() == whole
    assert any(spans for _, (spans, _), _ in whole)


def test_a_long_text_is_encoded_as_a_short_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(SEED)
    texts = [random_text(random, 200) for _ in range(20)]
    alone = [GUARD.encode(text, []) for text in texts]
    monkeypatch.setattr(control, "_LONG", 0)
    assert [GUARD.encode(text, []) for text in texts] == alone


def test_no_text_has_fewer_tokens_than_the_bound() -> None:
    """Also where a normaliser composes characters before it encodes."""
    composing = build_tokenizer()
    backend = composing.backend_tokenizer
    backend.normalizer = normalizers.NFC()
    guards = [GUARD, ControlGuard(PreTrainedTokenizerFast(tokenizer_object=backend))]
    random = Random(SEED)
    decomposed = ["e\u0301", "\u1112\u1161\u11ab", "\u03b1\u0313\u0301\u0345", "a", *MARKERS]
    for guard in guards:
        for _ in range(50):
            text = "".join(random.choice(decomposed) for _ in range(random.randrange(300)))
            assert 0 <= guard.least_tokens(text) <= len(guard.encode(text, []))
        assert guard.least_tokens("a" * MEGABYTE) > 1000
    bare = ControlGuard(PreTrainedTokenizerFast(tokenizer_object=metaspace_tokenizer()))
    assert bare.least_tokens("a" * MEGABYTE) == 0  # nothing is known of such a tokenizer


def test_what_cannot_fit_is_refused_without_encoding_it(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = max(len(t.encode()) for t in TOKENIZER.get_vocab())
    monkeypatch.setattr(control, "_ids", lambda *_: pytest.fail("encoded"))
    with pytest.raises(ContextOverflow, match="at least 11 tokens and do not fit the context window of 10"):
        GUARD.encode("a" * longest * 11, [], 10)
    with pytest.raises(pytest.fail.Exception):
        GUARD.encode("a" * longest * 10, [], 10)


class Ticker:
    """Measures the longest time in which this thread could not run."""

    def __enter__(self) -> Ticker:
        self.worst, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._tick)
        self._thread.start()
        return self

    def _tick(self) -> None:
        last = time.perf_counter()
        while not self._stop.wait(0.002):
            now = time.perf_counter()
            self.worst, last = max(self.worst, now - last), now

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["add the price of 12 " * 15_000, "<" * MEGABYTE, "<|im_end|>" * 100_000, "\\u00e9" * 160_000, "日本語" * 330_000],
    ids=["words", "angles", "control", "escapes", "japanese"],
)
def test_other_threads_go_on_while_a_megabyte_is_refused(text: str) -> None:
    model = fake_chat_model(lambda _: "ok", reasoning_intensity=0.5)
    model.invoke("hi")
    best = 9.0
    for _ in range(5):  # on a busy machine a thread waits for others too: the best of a few
        with Ticker() as ticker, pytest.raises(ContextOverflow):
            model.invoke(text)
        best = min(best, ticker.worst)
        if best < MOST_SECONDS:
            break
    assert best < MOST_SECONDS
