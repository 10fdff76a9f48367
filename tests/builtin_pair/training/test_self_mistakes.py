"""Recorded mistakes: only real ones are kept, what follows them is right, and nothing wrong is learned from."""

import re
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from random import Random

import pytest

import builtin_pair
import dami_agent
from builtin_pair.training import command, export, self_mistakes, thoughts
from builtin_pair.training import tokenizer as tokens
from builtin_pair.training.render import call_text, segments
from dami_agent.tasks.questions import practice
from dami_agent.tasks.task import Operation

BASE = Path(builtin_pair.__file__).parent / "base"
BUILTIN = Path(dami_agent.__file__).parent / "checkpoints" / "builtin"


def _chains(count):
    rng, found = Random(3), []
    while len(found) < count:
        item = practice(rng, rng.choice(("chain", "story")))
        if len(item.work) > 1:
            found.append(item)
    return found


def _cases(seed, count):
    rng = Random(seed)
    return [self_mistakes.draw(rng) for _ in range(count)]


def _operations(case):
    return [index for index, step in enumerate(case.work) if isinstance(step, Operation)]


def _spoiled(case, index, off):
    """The thought a model would have written that made step `index` come out `off` too large."""
    right = case.dialogue.turns[-1].thought
    written = thoughts.worked(case.work, 1.0)
    body, check, rest = written.partition("\nCheck:")
    lines, result = body.split("\n"), case.work[index].result
    place = len(lines) - len(case.work) + index
    assert lines[place].endswith(f"= {result}.")
    lines[place] = lines[place].removesuffix(f"= {result}.") + f"= {result + off}."
    return right.replace(written, "\n".join(lines) + check + rest)


def _texts(dialogue):
    """(what is not learned from, what is)."""
    found = segments(dialogue)
    return ["".join(text for text, learn in found if learn == wanted) for wanted in (False, True)]


def _true_equations(text):
    for left, sign, right, result in re.findall(r"(\d+) ([-+*/]) (\d+) = (-?\d+)", text):
        assert eval(f"{left} {sign} {right}") == int(result), text


def test_every_family_with_arithmetic_is_drawn_and_a_right_thought_is_no_mistake():
    cases = _cases(1, 200)
    assert set(Counter(case.dialogue.family for case in cases)) == set(self_mistakes.FAMILIES)
    assert all(self_mistakes.find(case, case.dialogue.turns[-1].thought) is None for case in cases)
    assert all("Check:" in case.dialogue.turns[-1].thought for case in cases)
    assert any(case.dialogue.turns[-1].calls and len(case.dialogue.turns) > 2 for case in cases)


@pytest.mark.parametrize("off", [1, -1, 10])
def test_a_mistake_is_mended_and_only_the_mending_is_learned(off):
    rng, families = Random(5), Counter()
    for case in _cases(off, 200):
        index = rng.choice(_operations(case))
        step, reference = case.work[index], case.dialogue.turns[-1]
        wrong = step.result + off
        if wrong < 0:
            continue
        mistake = self_mistakes.find(case, _spoiled(case, index, off))
        if mistake is None:
            assert step.symbol == "+"
            assert wrong < step.right
            continue
        families[mistake.family] += 1
        context, learned = _texts(mistake)
        spoiled = mistake.turns[-1].given.splitlines()[len(case.work[index + 1 :]) * -1 - 1]
        assert spoiled.endswith(f"= {wrong}.")
        assert spoiled in context
        assert spoiled not in learned
        assert learned.startswith("Check:")
        assert f"{wrong} " in learned.split("\n")[0], "the check names what is wrong"
        assert learned.split("\n")[1] == f"Again, {step.detail}."
        assert learned.count("\nThen, ") == len(case.work) - index - 1
        assert f"So the result is {case.work[-1].value}." in learned
        assert learned.split("</think>")[1].removesuffix("<|im_end|>").strip() == "\n".join(
            [*([reference.content] if reference.content else []), *(call_text(*call) for call in reference.calls)]
        )
        _true_equations(learned)
    assert all(families[family] > 10 for family in self_mistakes.FAMILIES), families


def test_a_number_misread_in_a_line_is_checked_against_the_question():
    case = next(case for case in _cases(2, 100) if case.dialogue.family == "chain")
    step = case.work[0]
    other = Operation(step.left + 1, step.symbol, step.right)
    thought = case.dialogue.turns[-1].thought.replace(f"First, {step.detail}.", f"First, {other.detail}.")
    _, learned = _texts(self_mistakes.find(case, thought))
    assert f"not {step.left}" in learned.split("\n")[0]
    _true_equations(learned)


def test_thoughts_that_do_not_fit_are_left_alone():
    for case in _cases(4, 30):
        thought = case.dialogue.turns[-1].thought
        wrong = _spoiled(case, _operations(case)[-1], 1)
        assert self_mistakes.find(case, "I do not know.") is None
        assert self_mistakes.find(case, wrong.split("\nCheck:")[0]) is None, "it has no check"
        assert self_mistakes.find(case, wrong.replace("\nCheck:", "\nOnce more.\nCheck:")) is None, (
            "it has a line too many"
        )
        assert self_mistakes.find(case, f"Well. {wrong}") is None
        assert thought != wrong


def test_a_scan_gone_wrong_is_no_mistake_of_arithmetic():
    cases = [case for case in _cases(6, 300) if case.dialogue.family == "list"]
    case = next(case for case in cases if not isinstance(case.work[0], Operation))
    wrong = _spoiled(case, _operations(case)[-1], 1)
    assert self_mistakes.find(case, wrong) is not None
    assert self_mistakes.find(case, wrong.replace("take", "keep", 1)) is None


def test_written_mistakes_are_read_back(tmp_path):
    spoiled = [self_mistakes.find(case, _spoiled(case, _operations(case)[0], 2)) for case in _cases(7, 60)]
    found = [mistake for mistake in spoiled if mistake]
    self_mistakes.write(tmp_path / "new" / "self_mistakes.jsonl", found)
    assert self_mistakes.read(tmp_path / "new" / "self_mistakes.jsonl") == found
    assert len(found) > 30


def test_the_checkpoint_thinks_about_the_cases_without_their_solution(monkeypatch):
    asked = []

    def spoil(session, tokenizer, dialogues, *, temperature, limit, seed):
        asked.extend(dialogues)
        assert (session, temperature, limit) == ("opened", 0.8, self_mistakes.LIMIT)
        return [_spoiled(case, _operations(case)[-1], 3) for case in _again(len(dialogues), seed)]

    def _again(count, seed):
        rng = Random(f"slips:{seed}")
        return [self_mistakes.draw(rng) for _ in range(count)]

    monkeypatch.setattr(self_mistakes, "open_states", lambda *states, **options: nullcontext("opened"))
    monkeypatch.setattr(self_mistakes, "think", spoil)
    found = self_mistakes.collect({}, tokens.load(BASE), count=40, temperature=0.8, seed=5)
    assert len(found) > 30
    assert all(dialogue.turns[-1].role in ("user", "tool") for dialogue in asked)


@pytest.mark.parametrize(("role", "read"), [((), "base"), (("--role", "thinking"), "thinking")])
def test_the_command_records_from_any_role(tmp_path, monkeypatch, capsys, role, read):
    loaded = []
    monkeypatch.setattr(export, "load_state", lambda folder: loaded.append(folder) or {})
    monkeypatch.setattr(self_mistakes, "collect", lambda state, tokenizer, **given: loaded.append(given) or [])
    for folder in (BASE, BUILTIN / "thinking"):
        (tmp_path / folder.name).symlink_to(folder)
    arguments = [
        "self-mistakes",
        "--pair",
        str(tmp_path),
        "--self-mistakes",
        str(tmp_path / "s.jsonl"),
        "--count",
        "7",
        *role,
    ]
    command.main([*arguments, "--temperature", "0.9", "--threads", "1"])
    assert loaded == [tmp_path / read, {"count": 7, "temperature": 0.9, "seed": 0, "device": "auto"}]
    assert "0 self-made mistakes in 7 thoughts" in capsys.readouterr().out
    assert (tmp_path / "s.jsonl").read_text() == ""


def test_the_base_cannot_be_tuned_into_itself(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        command.main(["tune", "--pair", "x", "--run", "y", "--role", "base"])
    assert "--role instruct" in capsys.readouterr().err


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
