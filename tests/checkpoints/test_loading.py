"""Loads that overlap: transformers and accelerate patch themselves while they load, for the whole process."""

from __future__ import annotations

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import accelerate
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, initialization

from dami_agent.checkpoints import CheckpointPair, loading
from dami_agent.checkpoints.layout import empty_model
from dami_agent.weights import load_weights
from tests.pairs import write_pair

FUNCTIONS = {
    "no_tie_weights": lambda: PreTrainedModel.tie_weights,
    "init_on_device": lambda: torch.nn.Module.register_parameter,
    "meta_device_safe_creation_ops": lambda: torch.linspace,
}
CONTEXTS = {
    "no_tie_weights": initialization.no_tie_weights,
    "init_on_device": accelerate.init_empty_weights,
    "meta_device_safe_creation_ops": initialization.meta_device_safe_creation_ops,
}
GENUINE = {name: current() for name, current in FUNCTIONS.items()}


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    monkeypatch.setattr(loading, "PATIENCE", 0.1)
    dtype = torch.get_default_dtype()
    yield
    assert {name: current() for name, current in FUNCTIONS.items()} == GENUINE
    assert torch.get_default_dtype() == dtype


def state() -> dict[str, object]:
    return {name: current() for name, current in FUNCTIONS.items()}


@pytest.mark.parametrize("name", CONTEXTS)
def test_the_installed_libraries_patch_what_is_watched(name):
    """If a new version patches otherwise, this says so."""
    loading.load(lambda: None)
    with CONTEXTS[name]():
        assert loading.patched() == [name]
    assert loading.patched() == []


def test_two_that_overlap_leave_a_patch_for_ever(monkeypatch):
    """The control: what the lock is there for, in the order in which threads can run it."""
    monkeypatch.setattr(PreTrainedModel, "tie_weights", GENUINE["no_tie_weights"])
    first, second = initialization.no_tie_weights(), initialization.no_tie_weights()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert PreTrainedModel.tie_weights is not GENUINE["no_tie_weights"]
    with loading.exclusively():  # and what is there afterwards
        assert PreTrainedModel.tie_weights is GENUINE["no_tie_weights"]


@pytest.mark.parametrize("name", CONTEXTS)
def test_what_others_left_behind_is_put_back_before_a_load(written, name, caplog):
    paths = written()
    loading.load(lambda: None)
    left = CONTEXTS[name]()
    left.__enter__()
    pair = CheckpointPair.open(*paths)
    assert state() == GENUINE
    assert pair.layout.tied == {"lm_head.weight": "model.embed_tokens.weight"}
    assert "put back" in caplog.text
    left.__exit__(None, None, None)


def test_a_load_that_ran_into_anothers_is_repeated(written):
    """Somebody else's load begins in the middle of ours, so that the model's weights were never tied."""
    paths, seen = written(), []

    def overlapped():
        if not seen:
            PreTrainedModel.tie_weights = lambda *args, **kwargs: None
            PreTrainedModel.tie_weights.__qualname__ = "no_tie_weights.<locals>.empty_func"
        model = AutoModelForCausalLM.from_pretrained(paths[0])
        seen.append(model.lm_head.weight is model.model.embed_tokens.weight)
        return model

    loading.load(overlapped)
    assert seen == [False, True]


def test_only_one_section_runs_at_a_time_and_may_be_entered_twice():
    inside, most = 0, 0
    lock = threading.Lock()

    def section(_):
        nonlocal inside, most
        with loading.exclusively(), loading.exclusively():
            with lock:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.002)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(section, range(24)))
    assert most == 1


def test_every_way_to_a_model_goes_through_the_lock(written, monkeypatch):
    """While another thread holds it, neither opening nor loading nor building begins; afterwards all do."""
    paths = written()
    config = CheckpointPair.open(*paths).model_config()
    ways = {
        "open": lambda: CheckpointPair.open(*paths),
        "merged": lambda: load_weights(*paths, mode="merged"),
        "mixed": lambda: load_weights(*paths, mode="mixed"),
        "empty": lambda: empty_model(config),
    }
    with ThreadPoolExecutor(len(ways)) as pool:
        with loading.exclusively():
            begun = {name: pool.submit(way) for name, way in ways.items()}
            threading.Event().wait(0.3)
            assert [name for name, future in begun.items() if future.done()] == []
            assert state() == GENUINE
        for future in begun.values():
            future.result(30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_in_the_middle_of_a_load_neither_hangs_nor_stays_patched(written):
    """Another thread loads while this one forks: the child can load at once, with the libraries' own functions."""
    loading.load(lambda: None)
    loads, go_on = threading.Event(), threading.Event()

    def slow():
        with initialization.no_tie_weights(), accelerate.init_empty_weights():
            torch.set_default_dtype(torch.bfloat16)
            loads.set()
            go_on.wait(30)
            torch.set_default_dtype(torch.float32)

    thread = threading.Thread(target=lambda: loading.load(slow))
    thread.start()
    loads.wait(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of forks beside threads; that is what is tried here
        child = os.fork()
    if not child:
        code = 1
        try:
            fine = state() == GENUINE and torch.get_default_dtype() == torch.float32
            with loading.exclusively():
                code = 0 if fine and not loading.patched() else 2
        finally:
            os._exit(code)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def rounds(paths, count):
    """``count`` times four pairs opened and loaded at once; what failed."""
    right = True, {"lm_head.weight": "model.embed_tokens.weight"}
    failures = []

    def use(pair):
        model = load_weights(*pair, mode="merged")
        opened = CheckpointPair.open(*pair)
        with model.at([0.5]) as lent:
            tied = lent.lm_head.weight is lent.model.embed_tokens.weight
        return tied, dict(opened.layout.tied)

    with ThreadPoolExecutor(4) as pool:
        for number in range(count):
            begun = [pool.submit(use, pair) for pair in paths]
            wrong = [future.exception(60) or future.result() for future in begun]
            failures += [f"round {number}: {found!r}" for found in wrong if found != right]
            assert state() == GENUINE
    return failures


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return [write_pair(tmp_path_factory.mktemp("four"), seed=seed, hidden=16, layers=1) for seed in range(4)]


def test_four_pairs_at_once(four):
    assert rounds(four, 4) == []


@pytest.mark.slow
def test_four_pairs_at_once_two_hundred_times(four):
    assert rounds(four, 200) == []
