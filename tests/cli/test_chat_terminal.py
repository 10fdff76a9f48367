"""`dami chat` at a real terminal: a pseudo-terminal, real keys, the built-in pair."""

from __future__ import annotations

import codecs
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pty = pytest.importorskip("pty")
ROOT = Path(__file__).parents[2]
CTRL_C, CTRL_D = b"\x03", b"\x04"


class Terminal:
    def __init__(self, *options: str, ledger: Path) -> None:
        self.master, side = pty.openpty()
        command = [sys.executable, "-c", "from dami_agent.cli import main; main()", "chat", *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "DAMI_LEDGER": str(ledger), "TERM": "dumb"}
        self.process = subprocess.Popen(
            command, stdin=side, stdout=side, stderr=side, env=environment, start_new_session=True,
            preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(side)
        self.seen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a prompt may come byte by byte

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def read(self) -> None:
        """Take what is there; an error if the other side is closed."""
        self.seen += self._decoder.decode(os.read(self.master, 1 << 16))

    def press(self, key: bytes, text: str) -> None:
        """Type a key until ``text`` comes: an interrupt between a prompt and its reading waits for the next one."""
        for _ in range(12):
            self.type(key)
            with suppress(AssertionError):
                return self.wait_for(text, 10)
        raise AssertionError(f"{text!r} did not come, however often {key!r} was typed")

    def wait_for(self, text: str, seconds: float = 120.0) -> None:
        """Read on until ``text`` comes; what came before it is forgotten."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} did not come after {self.seen!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                self.read()
        self.seen = self.seen.partition(text)[2]


def _own_terminal() -> None:
    """Make the terminal on stdin the session's own, so that Ctrl-C typed there is a signal."""
    import fcntl
    import signal
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell ignores it in what it starts in the background
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal("--intensity", "0", "--max-tokens", "400", ledger=tmp_path / "ledger.sqlite")
    yield opened
    opened.process.kill()
    opened.process.wait()
    os.close(opened.master)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_banner_commands_and_the_end(terminal: Terminal) -> None:
    terminal.wait_for("dami-builtin")
    terminal.wait_for("/help lists the commands")
    terminal.wait_for("› ")
    terminal.type(b"/help\n")
    for said in ("/clear", "/exit", "Ctrl-C", "› "):
        terminal.wait_for(said)
    terminal.type(b"/nonsense\n")
    terminal.wait_for("unknown command /nonsense")
    terminal.wait_for("› ")
    terminal.press(CTRL_C, "Ctrl-D or /exit ends the chat")
    terminal.wait_for("› ")
    terminal.type(b"What is 3 plus 4?\n")
    terminal.wait_for("answer tokens")
    terminal.wait_for("› ")
    terminal.type(b"/clear\n")
    terminal.wait_for("the conversation starts anew")
    terminal.wait_for("› ")  # before it the terminal itself takes Ctrl-D, and nobody reads it
    terminal.type(CTRL_D)
    assert terminal.process.wait(60) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_ends_the_reply_and_not_the_chat(tmp_path: Path) -> None:
    options = ("--intensity", "1", "--max-tokens", "4000", "--temperature", "2")  # long, whatever it says
    terminal = Terminal(*options, ledger=tmp_path / "ledger.sqlite")
    try:
        terminal.wait_for("› ")
        terminal.type(b"Start with 7. Add 5. Multiply by 3. Add 812. Multiply by 97. What is the result?\n")
        terminal.wait_for("result?\r\n")
        while len(terminal.seen) < 10:  # the thought has begun
            assert select.select([terminal.master], [], [], 60)[0]
            terminal.read()
        terminal.type(CTRL_C)
        terminal.wait_for("stopped")
        terminal.wait_for("› ")
        terminal.type(b"/exit\n")
        assert terminal.process.wait(60) == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)
