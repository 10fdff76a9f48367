"""Files of a checkpoint broken in every way one can think of, and in a thousand more: only errors of ours, and soon."""

from __future__ import annotations

import copy
import json
import os
import shutil
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dami_agent.checkpoints import CheckpointPair, plan
from dami_agent.dialogue import Dialogue
from dami_agent.errors import CheckpointError, CheckpointNotFound, DamiError, UnsupportedCheckpoint
from dami_agent.runtime.factory import find_markers
from dami_agent.types import Message, Step, Tool
from dami_agent.weights import load_weights
from tests.pairs import edit_json, write_pair

SECONDS = 10  # for all that is done with one checkpoint; the slowest takes under one on an idle machine
FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
    "model.safetensors.index.json",
)
TOOL = Tool(name="add", description="d", parameters={"type": "object", "properties": {"a": {"type": "integer"}}})
STEP = Step(messages=(Message(role="system", content="s"), Message(role="user", content="a <think> 1")), tools=(TOOL,))
TALK = Step(messages=(Message(role="user", content="a"),))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two small pairs: in one file, and in three shards with an index."""
    return [write_pair(tmp_path_factory.mktemp("whole"), hidden=16, layers=1, shards=shards) for shards in (1, 3)]


def use(paths) -> DamiError | None:
    """Everything that reads a checkpoint's files; what ended it. Other exceptions pass."""
    began = time.thread_time()
    try:
        pair = CheckpointPair.open(*paths)
        plan(pair, memory={"cpu": 10**11})
        tokenizer = pair.instruct.tokenizer()
        find_markers(tokenizer)
        templates = {"instruct": pair.instruct.chat_template, "thinking": pair.thinking.chat_template}
        dialogue = Dialogue(tokenizer, templates=templates)
        for step in (TALK, STEP):
            for template in ("instruct", "thinking"):
                dialogue.render(step, template)
        with load_weights(pair.instruct.path, pair.thinking.path, mode="merged").at([0.5]):
            pass
    except DamiError as error:
        return error
    finally:
        assert time.thread_time() - began < SECONDS
    return None


def broken(whole, folder: Path, side: int, sharded: bool):
    """A fresh copy; its weights are links, since most stay as they are."""
    for path in whole[sharded]:
        (folder / path.name).mkdir(parents=True)
        for file in path.iterdir():
            link = file.suffix == ".safetensors"
            (os.link if link else shutil.copy)(file, folder / path.name / file.name)
    paths = tuple(folder / path.name for path in whole[sharded])
    return paths, paths[side]


NUMBERS = st.sampled_from(
    [0, -1, 1, 2**31, 2**63, -(2**63), 10**19, 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf")]
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.integers(),
    st.sampled_from(
        ["", "a", "\x00", "</think>", "\ud800", "auto", "float32", "../../x", "1" * 5000, "é" * 300, "NaN"]
    ),
    st.sampled_from([[], {}, [[]], [{}], [None], ["a", 1], {"": None}, {"a": {"b": []}}, [[1] * 50], [0] * 10_000]),
    st.text(max_size=20),
)


def places(value, path=()):
    """Paths to all values inside a JSON value."""
    found = [path] if path else []
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        found += places(part, (*path, key)) if isinstance(part, (dict, list)) else [(*path, key)]
    return found


def change(draw, data):
    """One place of a JSON value replaced, taken out, or given a neighbour; the biggest lists are not gone through."""
    found = places(data)
    if not found:
        return copy.deepcopy(draw(VALUES))
    *way, last = draw(st.sampled_from(found if len(found) < 400 else found[:200] + found[-200:]))
    inner = data
    for key in way:
        inner = inner[key]
    action = draw(st.sampled_from(["replace", "replace", "replace", "delete", "add", "nest"]))
    if action == "delete":
        del inner[last]
    elif action == "add" and isinstance(inner, dict):
        inner[draw(st.text(max_size=10))] = copy.deepcopy(draw(VALUES))
    elif action == "nest":
        inner[last] = [inner[last]]
    else:
        inner[last] = copy.deepcopy(draw(VALUES))
    return data


def damage(draw, data: bytes) -> bytes:
    """Bytes cut off, flipped, put in or taken out."""
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    action = draw(st.sampled_from(["cut", "flip", "insert", "remove", "repeat", "mark", "utf-16", "deep"]))
    junk = draw(st.sampled_from([b"\xff", b"\x00", b"[", b"{", b'"', b"NaN", b"1e999", b"9" * 5000, b"\xed\xa0\x80"]))
    return {
        "cut": data[:at],
        "flip": data[:at] + bytes([(data[at] if data else 0) ^ 1 << at % 8]) + data[at + 1 :],
        "insert": data[:at] + junk + data[at:],
        "remove": data[:at] + data[at + 10 :],
        "repeat": data + data,
        "mark": b"\xef\xbb\xbf" + data,
        "utf-16": data.decode("utf-8", "replace").encode("utf-16"),
        "deep": b"[" * 100_000,
    }[action]


TEMPLATES = st.sampled_from(
    (
        "",
        "{{",
        "{% for m in messages %}",
        "{{ 1 / 0 }}",
        "{{ x.y.z }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ 'a' * 10**10 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ raise_exception('no') }}",
        "{{ messages }}{{ tools }}",
        "{% include 'a' %}",
        "{{ messages[0].content }}<tool_call>",
        "{{ 10 ** (10 ** 9) }}",
    )
)


@st.composite
def mutations(draw):
    """Which file of which side, and a function that breaks it."""
    name, side = draw(st.sampled_from(FILES)), draw(st.integers(0, 1))
    kind = draw(st.sampled_from(["json", "json", "json", "bytes", "gone"]))
    rounds = draw(st.integers(1, 3))

    def apply(file: Path) -> None:
        data = file.read_bytes()
        file.unlink()
        if kind == "gone":
            odd = draw(st.sampled_from(["missing", "empty", "folder", "loop", "pipe", "nowhere"]))
            {
                "missing": lambda: None,
                "empty": file.touch,
                "folder": file.mkdir,
                "loop": lambda: file.symlink_to(file),
                "pipe": lambda: os.mkfifo(file),
                "nowhere": lambda: file.symlink_to("/no/such/file"),
            }[odd]()
        elif kind == "bytes":
            file.write_bytes(damage(draw, data))
        elif name.endswith(".jinja"):
            file.write_text(draw(TEMPLATES) + draw(st.text(max_size=30)), encoding="utf-8", errors="replace")
        else:
            start = 8 if name.endswith(".safetensors") else 0
            length = struct.unpack("<Q", data[:8])[0] if start else len(data)
            value = json.loads(data[start : start + length])
            for _ in range(rounds):
                value = change(draw, value) if isinstance(value, (dict, list)) else value
            text = json.dumps(value).encode()
            file.write_bytes((struct.pack("<Q", len(text)) if start else b"") + text + data[start + length :])

    return name, side, apply


def fuzz(examples: int):
    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.data())
    def check(whole, tmp_path_factory, data):
        name, side, apply = data.draw(mutations())
        folder = tmp_path_factory.mktemp("fuzz")
        try:
            paths, victim = broken(whole, folder, side, sharded=name.endswith(".index.json"))
            apply(victim / name)
            error = use(paths)
            assert error is None or (error.hint and len(str(error)) < 20_000)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return check


test_some_broken_files = fuzz(25)
test_a_thousand_broken_files = pytest.mark.slow(pytest.mark.timeout(900)(fuzz(1000)))


def written(name: str, text: str | bytes):
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return apply


def edited(name: str, **changes):
    return lambda folder: edit_json(folder / name, **changes)


def replaced(name: str, make):
    def apply(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return apply


CASES = {
    "deep nesting": ("config.json", written("config.json", "[" * 100_000), CheckpointError),
    "deep objects": ("config.json", written("config.json", '{"a":' * 80 + "1" + "}" * 80), CheckpointError),
    "5,000 digits": ("config.json", written("config.json", '{"vocab_size": ' + "9" * 5000 + "}"), CheckpointError),
    "400 digits": ("hidden_size", edited("config.json", hidden_size=10**400), CheckpointError),
    "a billion layers": ("num_hidden_layers", edited("config.json", num_hidden_layers=10**9), CheckpointError),
    "no heads": ("config.json", edited("config.json", num_attention_heads=0), CheckpointError),
    "heads as text": ("config.json", edited("config.json", num_attention_heads="four"), CheckpointError),
    "a list for a size": ("config.json", edited("config.json", hidden_size=[16]), CheckpointError),
    "rope as text": ("config.json", edited("config.json", rope_parameters="yes"), CheckpointError),
    "not UTF-8": ("config.json", written("config.json", b'{"a": "\xff"}'), CheckpointError),
    "UTF-16": ("config.json", written("config.json", "{}".encode("utf-16")), CheckpointError),
    "a loop of links": ("config.json", replaced("config.json", lambda p: p.symlink_to(p)), CheckpointNotFound),
    "a pipe": ("tokenizer_config.json", replaced("tokenizer_config.json", os.mkfifo), CheckpointNotFound),
    "a pipe that transformers reads": ("vocab.txt", replaced("vocab.txt", os.mkfifo), CheckpointNotFound),
    "a folder": ("generation_config.json", replaced("generation_config.json", Path.mkdir), CheckpointNotFound),
    "temperature": ("temperature", edited("generation_config.json", temperature="hot"), CheckpointError),
    "NaN": ("temperature", edited("generation_config.json", temperature=float("nan")), CheckpointError),
    "a truth for a number": ("top_p", edited("generation_config.json", top_p=True), CheckpointError),
    "a list for a number": ("top_k", edited("generation_config.json", top_k=[20]), CheckpointError),
    "an end that is no token": (
        "eos_token_id",
        edited("generation_config.json", eos_token_id="<none>"),
        CheckpointError,
    ),
    "half an end": ("eos_token_id", edited("generation_config.json", eos_token_id=1.5), CheckpointError),
    "an end in an object": ("eos_token_id", edited("generation_config.json", eos_token_id={"a": 1}), CheckpointError),
    "a huge end": ("eos_token_id", edited("generation_config.json", eos_token_id=[2**40]), CheckpointError),
    "no vocabulary": ("tokenizer", edited("tokenizer.json", model={"type": "BPE"}), CheckpointError),
    "no model": ("tokenizer", edited("tokenizer.json", model=None), CheckpointError),
    "an unknown model": ("tokenizer", edited("tokenizer.json", model={"type": "X", "vocab": {}}), CheckpointError),
    "added tokens as text": ("tokenizer", edited("tokenizer.json", added_tokens="all"), CheckpointError),
    "an empty header": ("model.safetensors", written("model.safetensors", b""), CheckpointError),
    "a header of 2**60 bytes": (
        "model.safetensors",
        written("model.safetensors", struct.pack("<Q", 2**60) + b"{}"),
        CheckpointError,
    ),
    "a template in Latin-1": ("chat_template.jinja", written("chat_template.jinja", b"\xe9"), CheckpointError),
}


@pytest.mark.parametrize(("where", "apply", "kind"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_broken_is_named(whole, tmp_path, where, apply, kind, side):
    paths, victim = broken(whole, tmp_path, side, sharded=False)
    if where == "model.safetensors":
        (victim / where).unlink()  # a link to the whole one
    apply(victim)
    error = use(paths)
    assert isinstance(error, kind), error
    assert where in str(error)
    assert error.hint


HARMLESS = {
    "an end as text": edited("generation_config.json", eos_token_id="<|im_end|>"),
    "ends as texts": edited("generation_config.json", eos_token_id=["<|im_end|>", "<|endoftext|>"]),
    "an end as digits": edited("generation_config.json", eos_token_id="9"),
    "no end, said by -1": edited("config.json", eos_token_id=-1),
    "top_k off, said by -1": edited("generation_config.json", top_k=-1),
    "infinity where nobody looks": edited("config.json", time_step_limit=[0.0, float("inf")]),
    "a long model_max_length": edited("tokenizer_config.json", model_max_length=int(1e30)),
    "a link to nothing that nobody reads": replaced("notes.json", lambda p: p.symlink_to("/no/such/file")),
    "a folder that nobody reads": replaced("notes.txt", Path.mkdir),
    "unknown fields": edited("config.json", my_own={"a": [1, {"b": None}]}),
}


@pytest.mark.parametrize("apply", HARMLESS.values(), ids=HARMLESS)
def test_odd_but_sound_checkpoints_open(whole, tmp_path, apply):
    paths, _ = broken(whole, tmp_path, 0, sharded=False)
    for path in paths:
        apply(path)
    assert use(paths) is None


def test_an_end_given_as_text_is_its_id(whole, tmp_path):
    paths, _ = broken(whole, tmp_path, 0, sharded=False)
    vocabulary = {t["content"]: t["id"] for t in json.loads((paths[0] / "tokenizer.json").read_text())["added_tokens"]}
    edit_json(paths[0] / "generation_config.json", eos_token_id="<|endoftext|>")
    edit_json(paths[0] / "config.json", eos_token_id=None)
    edit_json(paths[1] / "generation_config.json", eos_token_id=["<|im_end|>", 3, "7"], eos_token="</think>")
    edit_json(paths[1] / "config.json", eos_token_id=None)
    pair = CheckpointPair.open(*paths)
    assert pair.instruct.eos_token_ids == (vocabulary["<|endoftext|>"],)
    assert pair.thinking.eos_token_ids == (vocabulary["<|im_end|>"], 3, 7, vocabulary["</think>"])


@pytest.mark.parametrize("dtype", ["I8", "U8", "I32", "BOOL"])
@pytest.mark.parametrize(
    "name", ["model.layers.0.mlp.up_proj.weight", "model.norm.weight", "model.layers.0.self_attn.q_norm.weight"]
)
def test_integer_weights_are_refused_though_the_config_keeps_silent(whole, tmp_path, dtype, name):
    paths, victim = broken(whole, tmp_path, 1, sharded=False)
    file = victim / "model.safetensors"
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, end = json.loads(data[8 : 8 + length]), 0
    for key, entry in sorted(
        (item for item in header.items() if item[0] != "__metadata__"), key=lambda i: i[1]["data_offsets"]
    ):
        size = entry["data_offsets"][1] - entry["data_offsets"][0]
        if key == name:
            entry["dtype"], size = dtype, size // 2 * (4 if dtype == "I32" else 1)
        entry["data_offsets"], end = [end, end + size], end + size
    text = json.dumps(header).encode()
    file.unlink()
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"\1" * end)
    error = use(paths)
    assert isinstance(error, UnsupportedCheckpoint)
    assert f"{name} ({dtype}[" in error.message
    assert "quantised" in error.message
    assert "bf16" in str(error.hint)
