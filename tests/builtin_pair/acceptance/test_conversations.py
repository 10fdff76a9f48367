"""Conversations that go on from the pair's own answers: how they are drawn and judged, and the commands' bad λs."""

import re
from random import Random

import pytest
from typer.testing import CliRunner

from builtin_pair.acceptance import conversations
from builtin_pair.cli import app
from builtin_pair.training import conversations as training
from builtin_pair.training import remarks, smalltalk


@pytest.fixture(scope="module")
def drawn():
    return conversations.draw({}, count=20, seed=0)


def test_new_words_are_in_no_training_template():
    """What counts as new must be so, also without case and punctuation."""

    def plain(text: str) -> str:
        return " ".join(re.findall(r"[a-z]+", text.lower()))

    trained = {plain(each) for texts in training._FOLLOWS.values() for each in texts}
    trained |= {plain(each) for each in training._DOUBTS}
    rng = Random(0)
    trained |= {plain(remarks.doubt(rng)) for _ in range(20_000)}
    for said in (conversations.FOLLOW_UPS, conversations.DOUBTS):
        assert not {plain(each) for each in said[False]} & trained
        assert {plain(each) for each in said[True]} <= trained
    thanks = {plain(text) for text in smalltalk.THANKS[0]} | {plain(remarks.thanks(rng)) for _ in range(20_000)}
    assert not {plain(each) for each in conversations.THANKS[False]} & thanks


def test_a_conversation_goes_on_from_instructs_own_answer(drawn):
    """A right answer is doubted and followed up, a wrong one only doubted."""
    by_opening: dict[str, set[str]] = {}
    for each in drawn:
        assert [role for role, _ in each.messages] == ["user", "assistant", "user"]
        by_opening.setdefault(each.messages[0][1], set()).add(each.kind)
    assert len(by_opening) == 20
    for kinds in by_opening.values():
        assert ("right_doubted" in kinds) != ("wrong_doubted" in kinds)
        assert "thanks" in kinds
        if "follow_up" in kinds:
            assert "right_doubted" in kinds


def test_replies_are_judged_by_their_last_number(drawn):
    """A follow-up is right with the sum alone; thanks are not answered with a number, nor with nothing."""
    follow = next(each for each in drawn if each.kind == "follow_up")
    before = int(re.findall(r"\d+", follow.messages[1][1])[-1])
    more = int(re.findall(r"\d+", follow.messages[2][1])[-1])
    assert follow.good(f"{before} + {more} is {before + more}.")
    assert not follow.good(f"The answer is {before}.")
    thanks = next(each for each in drawn if each.kind == "thanks")
    assert thanks.good("You are welcome!")
    assert not thanks.good("The answer is 4.")
    assert not thanks.good(" ")


@pytest.mark.parametrize("command", ["freeform", "conversations", "bfcl"])
@pytest.mark.parametrize("wrong", ["low", "1.5", "0,,1", "nan"])
def test_a_bad_lambda_is_refused_before_work_begins(command, wrong):
    """The message names the option and what it takes."""
    result = CliRunner().invoke(app, [command, "--lambdas", wrong])
    assert result.exit_code == 2
    assert "neither auto nor a number in [0, 1]" in " ".join(result.output.split())
