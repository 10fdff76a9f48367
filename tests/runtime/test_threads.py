"""A tiny model is computed by one thread, and nobody else's number of threads changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TypeVar

import pytest
import torch

from dami_agent.runtime.threads import limit_threads
from tests.runtime.scripted import ScriptedWeights, reply_script
from tests.runtime.support import Lab, ask, prompt_of

T = TypeVar("T")


def on_a_thread(function: Callable[[], T]) -> T:
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_a_tiny_model_is_computed_by_one_thread_and_others_keep_theirs(lab: Lab, four_threads: None) -> None:
    seen: list[int] = []
    weights = ScriptedWeights(reply_script(3, [5, 6, 7], lab.eos_ids[0]), lambda: seen.append(torch.get_num_threads()))
    with lab.engine(weights=weights) as engine:
        engine.generate(prompt_of([1, 2, 3]), ask(0.5, max_tokens=8))
    assert set(seen) == {1}
    assert torch.get_num_threads() == 4
    assert on_a_thread(torch.get_num_threads) == 4


@pytest.mark.parametrize(
    ("device", "size", "threads"), [("cpu", 1 << 20, 1), ("cpu", 1 << 30, 4), ("cuda", 1 << 20, 4)]
)
def test_only_tiny_models_on_a_cpu(device: str, size: int, threads: int, four_threads: None) -> None:
    weights = SimpleNamespace(device=torch.device(device), nbytes=lambda: {"instruct": size})

    def limited() -> int:
        limit_threads(weights)  # type: ignore[arg-type]
        return torch.get_num_threads()

    assert on_a_thread(limited) == threads
    assert torch.get_num_threads() == 4
