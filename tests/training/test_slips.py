"""Recorded mistakes: only real ones are kept, what follows them is right, and nothing wrong is learned from."""

import re
from random import Random

import pytest

from dami_agent.tasks.questions import practice
from dami_agent.training import slips, thoughts
from dami_agent.training.render import segments


def _chains(count):
    rng, found = Random(3), []
    while len(found) < count:
        item = practice(rng, rng.choice(("chain", "story")))
        if len(item.work) > 1:
            found.append(item)
    return found


def _spoiled(item, index, off):
    """The thought a model would have written that made step `index` come out `off` too large."""
    lines = thoughts.worked(item.work, 1.0).split("\n")
    step = item.work[index]
    lines[index + 1] = re.sub(rf"= {step.result}\.$", f"= {step.result + off}.", lines[index + 1])
    return "\n".join(lines)


def test_a_right_thought_is_no_slip():
    assert all(slips.find(item, thoughts.worked(item.work, 1.0)) is None for item in _chains(50))


def test_a_slip_is_mended_and_only_the_mending_is_learned():
    rng = Random(5)
    for item in _chains(60):
        index = rng.randrange(len(item.work))
        slip = slips.find(item, _spoiled(item, index, 1))
        if slip is None:
            assert item.work[index].symbol == "+"
            continue
        learned = "".join(text for text, learn in segments(slip.dialogue()) if learn)
        context = "".join(text for text, learn in segments(slip.dialogue()) if not learn)
        wrong = item.work[index].result + 1
        assert f"= {wrong}." in context
        assert f"= {wrong}." not in learned
        assert learned.startswith("Check:")
        assert f"The answer is {item.answer}." in learned
        for left, sign, right, result in re.findall(r"(\d+) ([-+*]) (\d+) = (-?\d+)", learned):
            assert eval(f"{left} {sign} {right}") == int(result)


def test_thoughts_that_do_not_fit_are_left_alone():
    item = _chains(1)[0]
    assert slips.find(item, "I do not know.") is None
    assert slips.find(item, thoughts.worked(item.work, 0.7)) is None, "it has no check"


def test_written_slips_are_read_back(tmp_path):
    found = [slip for item in _chains(20) if (slip := slips.find(item, _spoiled(item, 0, 2)))]
    slips.write(tmp_path / "slips.jsonl", found)
    assert slips.read(tmp_path / "slips.jsonl") == [slip.dialogue() for slip in found]
    assert len(found) > 10


@pytest.mark.parametrize("style", [0.05, 0.2, 0.4, 0.6, 0.8, 0.95])
def test_every_level_of_detail_ends_in_the_answer_and_is_right(style):
    for item in _chains(40):
        thought = thoughts.worked(item.work, style)
        assert (thought == "") == (style < thoughts.EMPTY)
        for left, sign, right, result in re.findall(r"(\d+) ([-+*]) (\d+) = (-?\d+)", thought):
            assert eval(f"{left} {sign} {right}") == int(result)
        if thought:
            assert str(item.answer) in thought.split("\n")[-1]


def test_more_detail_is_longer():
    for item in _chains(40):
        lengths = [len(thoughts.worked(item.work, style)) for style in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
        assert lengths == sorted(lengths)
        assert lengths[0] < lengths[1] < lengths[-1]
