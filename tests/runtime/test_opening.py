"""From two folders to an engine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import ContextOverflow, UsageError
from dami_agent.runtime import LocalEngine
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
        assert engine.markers == lab.markers
        out = engine.generate(prompt_of(range(30, 50)), ask(0.35, max_tokens=12))
        lab.assert_greedy(0.35, range(30, 50), out.token_ids)
        defaults = engine.generate(
            prompt_of([1]), ask(0.35, sampling=ask().sampling.__class__(), max_tokens=1)
        ).sampling
        assert (defaults.temperature, defaults.top_p, defaults.top_k) == (0.6, 0.95, 20)


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
