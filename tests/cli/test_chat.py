"""`dami chat` with the built-in pair itself; what it says is not judged here."""

from __future__ import annotations

import builtins
import re

import pytest

from tests.cli.conftest import Dami

SHORT = ("--max-tokens", "12", "--seed", "1")


def test_a_message_as_argument(dami: Dami) -> None:
    ended = dami("chat", "What is", "3 plus 4?", "--intensity", "0", *SHORT)
    assert ended.status == 0
    footer = ended.err.splitlines()[-1]
    assert footer.startswith("λ 0 (")
    (row,) = dami("logs", "--json").json
    assert row["intensity"] == 0
    assert row["messages"] == 1
    prompt, thought, answer = (
        int(n) for n in re.search(r"(\d+) prompt, (\d+) thought.*?, (\d+) answer", footer).groups()
    )
    assert (prompt, answer) == (row["prompt_tokens"], row["answer_tokens"])
    assert thought == row["reasoning_tokens"] == 0
    assert dami("chat", "What is 3 plus 4?", "--intensity", "0", *SHORT).out == ended.out


def test_the_thought_goes_to_stderr_and_can_be_left_out(dami: Dami) -> None:
    shown = dami("chat", "--intensity", "1", *SHORT, stdin="What is 3 plus 4?")
    hidden = dami("chat", "--intensity", "1", "--no-thought", *SHORT, stdin="What is 3 plus 4?")
    assert shown.out == hidden.out
    assert len(shown.err) > len(hidden.err)
    first, second = dami("logs", "--json").json
    assert first["reasoning_tokens"] == second["reasoning_tokens"] > 0
    assert first["template"] == "thinking"


def test_a_conversation_remembers(dami: Dami, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["What is 3 plus 4?", "  ", "And twice that?"])

    def read(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(builtins, "input", read)
    monkeypatch.setattr("dami_agent.cli.chat.is_interactive", lambda: True)
    assert dami("chat", "--effort", "none", "--system", "Be brief.", *SHORT).status == 0
    assert [r["messages"] for r in dami("logs", "--json").json] == [2, 4]


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (["hi", "--intensity", "3"], 2, "finite number in [0, 1]"),
        (["hi", "--intensity", "deep"], 2, "deep"),
        (["hi", "--intensity", "ffn=.9"], 2, "without a λ"),
        (["hi", "--effort", "herculean"], 2, "herculean"),
        (["hi", "--instruct", "somewhere"], 2, "both checkpoints"),
        (["hi", "--instruct", "./no/such/folder", "--thinking", "./nor/this"], 1, "no/such/folder"),
        ([], 2, "message is empty"),
    ],
)
def test_errors_are_one_clean_message(dami: Dami, options: list[str], status: int, says: str) -> None:
    ended = dami("chat", *options)
    assert (ended.status, ended.out) == (status, "")
    assert says in ended.err
    assert "Traceback" not in ended.err


def test_a_λ_per_module_opens_the_pair_merged(dami: Dami) -> None:
    ended = dami("chat", "What is 3 plus 4?", "--intensity", "FFN=.9, attention=.5, other=.5", *SHORT)
    assert (ended.status, ended.err.splitlines()[-1].startswith("λ ffn=0.9,other=0.5 (")) == (0, True), ended.err
    (row,) = dami("logs", "--json").json
    assert (row["intensity"], row["intensity_modules"], row["weights_mode"]) == (0.9, "ffn=0.9,other=0.5", "merged")
    told = dami("explain").out
    assert "requested   λ = ffn=0.9,other=0.5" in told
    assert "used        λ = ffn=0.9,other=0.5 with thinking's template" in told
    assert "ffn=0.9,other=0.5" in dami("logs", "--csv").out
    assert "0.9*" in dami("runs").out
    beyond = dami("chat", "hi", "--intensity", "ffn[0-99]=.9,other=.5", *SHORT)
    assert (beyond.status, "does not have" in beyond.err) == (2, True)
