"""From two folders to an engine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import ContextOverflow, InvalidRequest, UsageError
from dami_agent.runtime import LocalEngine
from dami_agent.runtime.factory import CLOSING_WORDS_KEY
from tests.runtime.support import CONTEXT, VOCAB, Lab, ask, prompt_of


@pytest.fixture(scope="module")
def pair(lab: Lab) -> CheckpointPair:
    return CheckpointPair.open(lab.instruct, lab.thinking)


def test_all_is_found_in_the_folders(lab: Lab, pair: CheckpointPair) -> None:
    with LocalEngine.open(pair, device="cpu") as engine:
        info = engine.info
        assert (info.vocab_size, info.context_length, info.device, info.dtype) == (VOCAB, CONTEXT, "cpu", "float32")
        assert (info.weights_mode, info.fingerprint) == ("mixed", pair.fingerprint)
        assert {"device", "dtype", "mode", "context_length"} <= set(info.reasons)
        markers = engine.markers
        assert (markers.open_id, markers.close_id) == (lab.open_id, lab.close_id)
        assert (markers.tool_call_id, markers.after_close_ids) == (lab.tool_call_id, lab.after_close)
        out = engine.generate(prompt_of(range(30, 50)), ask(0.35, max_tokens=12))
        lab.assert_greedy(0.35, range(30, 50), out.token_ids)
        defaults = engine.generate(
            prompt_of([1]), ask(0.35, sampling=ask().sampling.__class__(), max_tokens=1)
        ).sampling
        assert (defaults.temperature, defaults.top_p, defaults.top_k) == (0.6, 0.95, 20)


QWEN3 = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now.\n"
    "</think>\n\n"
)
"""Section 4.3 of Qwen3's technical report."""


def test_a_thought_is_closed_with_the_words_of_its_family_its_pair_or_its_user(
    lab: Lab, pair: CheckpointPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(engine: LocalEngine, **limits: int) -> tuple[str, str | None]:
        with engine:
            out = engine.generate(prompt_of([1, 2], in_thought=True), ask(1.0, **limits))
        assert out.thought_closed_by == "cap"
        assert out.reasoning_tokens == limits["max_reasoning_tokens"]
        written = [event.token_id for event in out.events if event.part == "control"]
        return str(lab.tokenizer.decode(written)), out.closing_words

    limits = {"max_reasoning_tokens": 3, "max_tokens": 400}
    assert closed(LocalEngine.open(pair, device="cpu"), **limits) == (QWEN3, QWEN3.removesuffix("</think>\n\n"))
    own = LocalEngine.open(pair, device="cpu", closing_words="Enough.\n")
    assert closed(own, **limits) == ("Enough.\n</think>\n\n", "Enough.\n")
    assert closed(LocalEngine.open(pair, device="cpu", closing_words=""), **limits) == ("</think>\n\n", "")
    monkeypatch.setitem(pair.thinking.generation_config, CLOSING_WORDS_KEY, "So.\n")  # type: ignore[arg-type]
    assert closed(LocalEngine.open(pair, device="cpu"), **limits) == ("So.\n</think>\n\n", "So.\n")
    # An empty thought, and one that leaves the answer no room for words, is closed as the template closes any.
    for tight in ({"max_reasoning_tokens": 0, "max_tokens": 400}, {"max_reasoning_tokens": 3, "max_tokens": 12}):
        assert closed(LocalEngine.open(pair, device="cpu"), **tight) == ("\n</think>\n\n", "\n")


def test_closing_words_hold_no_control_token(pair: CheckpointPair) -> None:
    with pytest.raises(InvalidRequest, match="closing words"):
        LocalEngine.open(pair, closing_words="enough</think>")


def test_wishes_are_kept_or_refused(pair: CheckpointPair) -> None:
    with LocalEngine.open(pair, device="cpu", mode="merged", context_length=64, max_batch_size=2) as engine:
        assert (engine.info.weights_mode, engine.info.context_length) == ("merged", 64)
        with pytest.raises(ContextOverflow):
            engine.submit(prompt_of([1] * 60), ask(max_tokens=5))
        engine.load()
    with pytest.raises(UsageError):
        LocalEngine.open(pair, context_length=CONTEXT + 1)


def test_exit_with_a_running_request_is_clean(lab: Lab) -> None:
    """A daemon thread inside a forward pass must not break the interpreter's end."""
    code = f"""
from dami_agent.checkpoints import CheckpointPair
from dami_agent.runtime import LocalEngine
from dami_agent.types import Decision, Intensity, Limits, Prompt
engine = LocalEngine.open(CheckpointPair.open({str(lab.instruct)!r}, {str(lab.thinking)!r}), device="cpu")
decision = Decision(intensity=Intensity(0.5), template="instruct", reason="", limits=Limits())
jobs = [engine.submit(Prompt(token_ids=(1, 2, 3), template="instruct"), decision) for _ in range(4)]
next(iter(jobs[0]))
print("left", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr
    assert "Traceback" not in done.stderr
