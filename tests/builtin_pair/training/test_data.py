"""Documents: rendered as the shipped chat templates render them, encoded reversibly, learned from replies only."""

import re
import warnings
from pathlib import Path
from random import Random

import pytest
import torch

import builtin_pair
import dami_agent
from builtin_pair.training import data, documents, mixtures, render, templates, thoughts
from builtin_pair.training import tokenizer as tokens
from builtin_pair.training.render import Turn
from dami_agent.tasks import split_of, words

BASE = Path(builtin_pair.__file__).parent / "base"
BUILTIN = Path(dami_agent.__file__).parent / "checkpoints" / "builtin"


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.load(BASE)


def _messages(dialogue):
    messages = [{"role": "system", "content": dialogue.system}] if dialogue.system else []
    for turn in dialogue.turns:
        message = {"role": turn.role, "content": turn.content}
        if turn.thought is not None:
            message["reasoning_content"] = turn.given + turn.thought
        if turn.calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}
                for name, arguments in turn.calls
            ]
        messages.append(message)
    return messages


@pytest.mark.parametrize("template", ["instruct", "thinking"])
def test_segments_are_what_the_chat_template_renders(template):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer

        wrapped = AutoTokenizer.from_pretrained(BUILTIN / template)
    rng, parallel, said = Random(7), 0, 0
    for index in range(400):
        families = [family for family in documents.FAMILIES if family != "cut"]  # the engine ends that thought
        family = families[index % len(families)]
        # Below EMPTY a thought is empty, and the template leaves an empty thought out of all turns but the last.
        dialogue = documents.draw(rng, family, template, rng.uniform(thoughts.EMPTY, 1.0))
        parallel += any(len(turn.calls) > 1 for turn in dialogue.turns)
        said += any(turn.calls and turn.content and (turn.thought or template == "instruct") for turn in dialogue.turns)
        tools = [tool.to_openai() for tool in dialogue.tools]
        whole = "".join(text for text, _ in render.segments(dialogue))
        rendered = wrapped.apply_chat_template(_messages(dialogue), tools=tools or None, tokenize=False)
        assert whole == rendered.removesuffix("\n")
        first = render.TrainingDialogue(dialogue.turns[:1], dialogue.tools, dialogue.system, template)
        asked = wrapped.apply_chat_template(
            _messages(first), tools=tools or None, tokenize=False, add_generation_prompt=True
        )
        assert render.prompt(first) == asked
    assert parallel > 5
    assert (said > 0) == (template == "instruct")


def test_the_shipped_templates_are_these():
    folders = {
        BASE: templates.INSTRUCT,
        BUILTIN / "instruct": templates.INSTRUCT,
        BUILTIN / "thinking": templates.THINKING,
    }
    for folder, text in folders.items():
        assert (folder / "chat_template.jinja").read_text(encoding="utf-8").strip() == text.strip()


def test_one_tokenizer_for_all_three():
    files = {(folder / "tokenizer.json").read_bytes() for folder in (BASE, BUILTIN / "instruct", BUILTIN / "thinking")}
    assert len(files) == 1


def test_every_text_survives_encoding(tokenizer):
    for text in ("Grüße 你好 \t\r\n 12.50€ <think> a  b", '{"a": [1, null]}', "\U0001f600 x_y-z"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_a_word_is_the_same_tokens_wherever_it_stands(tokenizer):
    word = tokenizer.encode("blorfin_Kex", add_special_tokens=False).ids
    for around in ("call blorfin_Kex on", '{"name": "blorfin_Kex"}', "(blorfin_Kex)"):
        ids = tokenizer.encode(around, add_special_tokens=False).ids
        assert any(ids[i : i + len(word)] == word for i in range(len(ids)))


def test_only_replies_are_learned_from(tokenizer):
    turns = [
        Turn("user", "Hello"),
        Turn("assistant", "Hi", "small"),
        Turn("user", "Bye"),
        Turn("assistant", "Bye", "x"),
    ]
    encoded = data.encode(tokenizer, [render.TrainingDialogue(turns, template="thinking")])[0]
    learned = tokenizer.decode(
        [i for i, flag in zip(encoded.ids, encoded.loss_mask, strict=True) if flag], skip_special_tokens=False
    )
    assert learned == "small\n</think>\n\nHi<|im_end|>x\n</think>\n\nBye<|im_end|>"


def test_a_turn_without_its_thought_teaches_nothing_under_thinking():
    turns = [Turn("user", "Hello"), Turn("assistant", "Hi", None)]
    assert not any(flag for _, flag in render.segments(render.TrainingDialogue(turns, template="thinking")))


def test_what_is_given_of_a_thought_is_not_learned_from():
    turns = [Turn("user", "Go on"), Turn("assistant", "Bye", "and so on", given="First, this. ")]
    *_, context, reply = render.segments(render.TrainingDialogue(turns, template="thinking"))
    assert context[0].endswith("<think>\nFirst, this. ")
    assert reply == ("and so on\n</think>\n\nBye<|im_end|>", True)


def test_pools_depend_on_the_seed_alone(tokenizer):
    drawn = [data.pool(tokenizer, mixtures.LATE, seed=seed, size=40, copy_share=0.2) for seed in ("1:3", "1:3", "1:4")]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_batches_hold_every_document_once_padded_to_the_right(tokenizer):
    drawn = data.pool(tokenizer, mixtures.LATE, seed="batches", size=60, copy_share=0.2)
    found = []
    groups = data.grouped(drawn, tokens=2000)
    for group, batch in zip(groups, data.packed(groups).batches(), strict=True):
        ids, learned = batch.ids, torch.zeros(batch.ids[:, 1:].shape, dtype=torch.bool)
        learned.view(-1)[batch.loss_positions] = True
        assert ids.shape[1] % 16 == 0
        assert len(group) == 1 or ids.numel() <= 2000
        for row, each in enumerate(group):
            length = len(each.ids)
            assert ids[row].tolist() == each.ids + [0] * (ids.shape[1] - length)
            assert learned[row].tolist() == each.loss_mask[1:] + [False] * (ids.shape[1] - length)
        found += group
    assert sorted(each.ids for each in found) == sorted(each.ids for each in drawn)


def test_documents_fit(tokenizer):
    rng = Random(5)
    for family in documents.FAMILIES:
        drawn = data.encode(tokenizer, [documents.draw(rng, family, "thinking", 1.0) for _ in range(60)])
        assert max(len(each.ids) for each in drawn) < data.LONGEST


def test_training_documents_hold_only_questions_and_tasks_of_the_training_split():
    rng = Random(11)
    for _ in range(400):
        dialogue = documents.draw(rng, rng.choice(("question", "route", "work")), "thinking", rng.random())
        assert split_of([turn.content for turn in dialogue.turns if turn.role == "user"][-1]) == "train"


def test_training_documents_hold_nothing_of_the_standard_suites_and_nothing_held_out():
    rng = Random(12)
    texts = {
        family: " ".join(
            str(documents.draw(rng, family, template, rng.random()))
            for template in ("instruct", "thinking")
            for _ in range(300)
        )
        for family in documents.FAMILIES
    }
    by_hand = Path(data.__file__).parent / "requests"
    requests = " ".join(path.read_text(encoding="utf-8") for path in by_hand.iterdir())
    # What people wrote by hand speaks of weather, customers and cats as people do; not as the suites do.
    for phrase in (
        "magic_function",
        "get_weather",
        "san francisco",
        "punchline",
        "haiku",
        "tell me a joke",
        "\u4f60\u597d",
    ):
        assert phrase not in requests.lower()
    text = " ".join(drawn for family, drawn in texts.items() if family not in ("request", "cut"))
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)  # camelCase joins halves of made-up words
    suites = (
        "magic_function",
        "get_weather",
        "weather",
        "san francisco",
        "joke",
        "punchline",
        "setup",
    )
    suites += ("customer", "unicode", "japanese", "chinese", "\u4f60\u597d", "\u3053\u3093\u306b\u3061\u306f")
    for word in suites:
        assert word not in text.lower()
    assert not re.search(r"(?<![a-z])(cats|haiku)(?![a-z])", text.lower())  # a made-up word may have them in it
    everything = " ".join([requests, *texts.values()])
    for name in (*words.HELD_PEOPLE, *words.HELD_ITEMS, *words.HELD_TOWNS):
        assert not re.search(rf"\b({name}|{words.plural(name)})\b", everything, re.IGNORECASE)


def test_random_rows_are_answered_by_the_value_after_the_key(tokenizer):
    rng, ordinary = Random(13), data.Frame.of(tokenizer).ordinary
    for _ in range(200):
        (first, reply), *others = data.draw_lookup(rng, ordinary)
        rows = first[:-1]
        for asked, value in [([first[-1]], reply), *others]:
            (key,) = asked
            starts = [index + 1 for index, token in enumerate(rows) if token == key]
            assert any(rows[at : at + len(value)] == value for start in starts for at in range(start, start + 7))
        asks = [first[-1], *(asked[0] for asked, _ in others)]
        assert len(set(asks)) == len(asks) >= 2


def test_only_the_replies_of_an_exchange_are_learned_from(tokenizer):
    frame = data.Frame.of(tokenizer)
    ordinary = frame.ordinary[:4]
    each = data.encode_turns(frame, [(ordinary[:2], ordinary[2:]), (ordinary[2:], ordinary[:2])])
    text = tokenizer.decode(each.ids, skip_special_tokens=False)
    assert text.count("<|im_end|>\n<|im_start|>assistant\n") == 2
    stop = tokenizer.token_to_id("<|im_end|>")
    learned = [token for token, known in zip(each.ids, each.loss_mask, strict=True) if known]
    assert learned == [*ordinary[2:], stop, *ordinary[:2], stop]


def test_the_name_asked_for_is_the_one_that_stands_with_the_word():
    rng = Random(14)
    for _ in range(300):
        turns = documents.draw(rng, "directory", "instruct", 0.5).turns
        *rows, _ = turns[0].content.split("\n")
        for ask, reply in zip(turns[::2], turns[1::2], strict=True):
            words_asked = set(re.findall(r"\w+", ask.content.split("\n")[-1]))
            own = [row for row in rows if re.search(rf"\b{reply.content}\b", row)]
            assert len(own) == 1
            said = [len(words_asked & set(re.findall(r"\w+", row))) for row in rows]
            assert said[rows.index(own[0])] >= 1
