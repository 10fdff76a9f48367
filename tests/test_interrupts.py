"""Ctrl-C ends calls on every thread, however they were started; in processes of their own, with a real SIGINT."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

PRELUDE = """
    import asyncio, os, signal, sys, threading
    from concurrent.futures import ThreadPoolExecutor
    from langchain_core.runnables import RunnableLambda, RunnableParallel
    from dami_agent.ledger import Ledger
    from dami_agent.testing import FakeReply, fake_chat_model

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it starts in the background

    # A hundred tokens of 10 s each: whatever ends within seconds was cancelled.
    model = fake_chat_model([FakeReply("word " * 100)] * 100, seconds_per_token=10.0, ledger=Ledger.open(sys.argv[1]))
    started = threading.Event()
    submit = model.engine.submit

    def submit_and_say(*args):
        if not started.is_set():
            started.set()
            print("started", flush=True)
        return submit(*args)

    model.engine.submit = submit_and_say
"""

WAYS = {
    "invoke": "model.invoke('a')",
    "batch": "model.batch(['a'] * 8)",
    "batch with a queue": "model.batch(['a'] * 40, {'max_concurrency': 4})",
    "batch as completed": "list(model.batch_as_completed(['a'] * 8))",
    "batch that returns exceptions": "model.batch(['a'] * 8, return_exceptions=True)",
    "chain's batch": "(RunnableLambda(lambda x: x) | model).batch(['a'] * 8)",
    "parallel branches": "RunnableParallel(a=model, b=model, c=model).invoke('a')",
    "own pool with a queue": "with ThreadPoolExecutor(4) as pool: list(pool.map(model.invoke, ['a'] * 40))",
    "own pool, never closed": "list(ThreadPoolExecutor(4).map(model.invoke, ['a'] * 40))",
    "own thread": "t = threading.Thread(target=model.invoke, args=('a',)); t.start(); t.join()",
    "stream in a thread": "t = threading.Thread(target=lambda: list(model.stream('a'))); t.start(); t.join()",
    "abatch": "asyncio.run(model.abatch(['a'] * 8))",
    "graph branches": """
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict
class State(TypedDict):
    x: int
graph = StateGraph(State)
for name in "abc":
    graph.add_node(name, lambda state: model.invoke("a") and {})
    graph.add_edge(START, name)
graph.compile().invoke({"x": 1})
""",
}


def script(way: str) -> str:
    return textwrap.dedent(PRELUDE) + way


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process there")
@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_ctrl_c_ends_every_call(way: str, tmp_path: object) -> None:
    command = [sys.executable, "-c", script(way), f"{tmp_path}/calls.sqlite"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n", process.communicate()[1]
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=9)  # the first token alone would have taken ten seconds
    finally:
        process.kill()
    assert process.returncode in (-signal.SIGINT, 130, 1), errors
    assert "KeyboardInterrupt" in errors


GOES_ON = """
answers = []
other = fake_chat_model([FakeReply("word " * 5)] * 100, seconds_per_token=0.3)
background = threading.Thread(target=lambda: answers.append(other.invoke("a").content))
try:
    background.start()
    started.wait(0.2)
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(5)
except KeyboardInterrupt:
    # A program that handles the interrupt and works on: neither old nor new calls are its victims.
    answers += [m.content for m in other.batch(["a"] * 3)]
    threading.Event().wait(1)
    assert len(set(answers)) == 1 and len(answers) in (3, 4), answers
background.join()
print(len(answers), flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process there")
@pytest.mark.slow
def test_a_program_that_handles_the_interrupt_goes_on(tmp_path: object) -> None:
    command = [sys.executable, "-c", script(GOES_ON), f"{tmp_path}/calls.sqlite"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[-1:] == ["4"], done.stderr
