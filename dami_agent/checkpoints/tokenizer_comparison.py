"""Verify that two checkpoints read and write the same token ids, comparing tokenizer files as the library reads them.

A tokenizer that was only saved again is another file: defaults are spelt out, older notations are rewritten. So both
files go through ``tokenizers``' own parser and writer first. Vocabulary and added tokens must then be equal. Where the
rest differs, both tokenizers are asked: if one of some thousand texts gets other ids, or other text for the same ids,
the field is a mismatch that names the text; if none does, it is a note.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dami_agent.checkpoints.checkpoint import Checkpoint
from dami_agent.checkpoints.guard import guarded, read_json
from dami_agent.checkpoints.tokenizer_file import FILE, token_ids
from dami_agent.errors import Mismatch

SAME_TOKENIZER = "use checkpoints with one tokenizer; token ids must mean the same in both"
WIDTH = 80  # characters of a long value that are shown
PIPELINE = ("normalizer", "pre_tokenizer", "decoder")
UNUSED = ("post_processor", "version")  # prompts are encoded without any of these
SHOWN = 6  # differing tokens named in a message; the number of all is always given
DRAWN = 1500  # tokens of the vocabulary whose texts are tried, alone and side by side
TEXTS = (
    "The quick brown fox doesn't jump; it'll over-think: 3.14 + 1,000 = ?",
    "  two spaces,\ttab\n\nlines\r\nand   trailing   ",
    "def f(x):\n    return {'a': [1, 2, 3], \"b\": None}  # 0x1F",
    "Ärger, naïve café, Straße, ﬁn, Ⅳ, e\u0301, \u00a0nbsp, \u200bzero, \ufeffmark",
    "你好,世界。日本語のテスト 한국어 العربية עברית ไทย हिन्दी Ελληνικά Русский",
    "😀👩‍👩‍👧‍👦🇩🇪 ½ ² ™ → ∑ ∞ \U0001d54f",
    "1234567890 12 345 6789 0 007 1e-9 -5 +7",
    "CamelCase snake_case kebab-case http://a.b/c?d=e&f=%20#g x@y.z",
    "'s 't 're 've 'm 'll 'd 'S 'LL don't DON'T",
    "<|im_start|>user\na<|im_end|>\n<think>\n</think>\n\n<tool_call>{}</tool_call>",
)


@dataclass(frozen=True)
class _Side:
    """Holds one tokenizer file: its ``data``, and its normalised ``rest`` (no vocabulary, merges or added tokens)."""

    path: Path
    data: Mapping[str, Any]
    ids: Mapping[str, int]
    added: Mapping[str, Mapping[str, Any]]
    merges: list[str]
    rest: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> _Side:
        data = read_json(path)
        with guarded(f"{path}: the tokenizer cannot be read", hint=SAME_TOKENIZER):
            merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"].get("merges") or ()]
            added = {str(token["content"]): token for token in data.get("added_tokens") or ()}
            return cls(path, data, token_ids(data), added, merges, _normal(data))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        with guarded(f"{self.path}: the tokenizer cannot be built", hint=SAME_TOKENIZER):
            built = Tokenizer.from_str(json.dumps(self.data))
            built.no_truncation()
            built.no_padding()
            return built

    def encode(self, texts: list[str]) -> list[list[int]]:
        with guarded(f"{self.path}: the tokenizer fails on ordinary text", hint=SAME_TOKENIZER):
            return [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids: list[list[int]]) -> list[str]:
        with guarded(f"{self.path}: the tokenizer fails on its own ids", hint=SAME_TOKENIZER):
            return self.tokenizer.decode_batch(ids, skip_special_tokens=False)


def _normal(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file without vocabulary, merges and added tokens, as the library writes what it has read."""
    model = {**data["model"], "vocab": {}, "merges": []}
    slim = {**data, "added_tokens": [], "truncation": None, "padding": None, "model": model}
    try:
        found = json.loads(Tokenizer.from_str(json.dumps(slim)).to_str())
    except Exception:  # a model that cannot be without words: with them, at some cost
        found = json.loads(Tokenizer.from_str(json.dumps(data)).to_str())
    found["model"] = {key: value for key, value in found["model"].items() if key not in ("vocab", "merges")}
    return {key: value for key, value in found.items() if key not in ("added_tokens", "truncation", "padding")}


def compare_vocabularies(instruct: Checkpoint, thinking: Checkpoint) -> tuple[list[Mismatch], list[str]]:
    """List every difference between two tokenizers that changes ids or text; and notes on those that do not.

    Raises:
        CheckpointError: a tokenizer.json that no tokenizer can be built from.
    """
    paths = instruct.path / FILE, thinking.path / FILE
    if paths[0].read_bytes() == paths[1].read_bytes():
        with guarded(f"{paths[0]}: the tokenizer cannot be read", hint=SAME_TOKENIZER):
            return _beyond_embedding(token_ids(read_json(paths[0])), instruct, thinking), []
    a, b = (_Side.read(path) for path in paths)
    found = _tokens(a.ids, b.ids) + _added(a.added, b.added)
    differing = _differing(a.rest, b.rest)
    notes = [f"{name} differs, which changes no token" for name, *_ in differing if name in UNUSED]
    differing = [(name, x, y) for name, x, y in differing if name not in UNUSED]
    merges = [("model.merges", a.merges, b.merges)] if a.merges != b.merges else []
    example = _disagreement(a, b) if differing or merges or a.added != b.added else None
    if example is None:
        same = f"differs, but {2 * DRAWN:,} texts get the same ids, and the same text back"
        notes += [f"{name} {same}" for name, *_ in differing]
        differing = []  # merges decide ids, if only of texts that were not tried
    fields = merges + differing
    if example is not None and not (fields or found):  # only how added tokens take spaces and case
        fields = [("added_tokens", "", "")]
    found += [Mismatch(FILE, name, *_with(example, *_shown(x, y)), SAME_TOKENIZER) for name, x, y in fields]
    return found + _beyond_embedding(a.ids, instruct, thinking), notes


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """List the fields that differ beside vocabulary and added tokens, with both values."""
    models = a["model"], b["model"]
    found = [(f"model.{key}", models[0].get(key), models[1].get(key)) for key in sorted({*models[0], *models[1]})]
    found += [(key, a.get(key), b.get(key)) for key in (*PIPELINE, *UNUSED)]
    return [(name, x, y) for name, x, y in found if x != y]


def _disagreement(a: _Side, b: _Side) -> tuple[str, str, str] | None:
    """Find the shortest tried text on which the tokenizers differ: in ids, else in text for equal ids; or None."""
    texts = sorted({*_probes(a), *_merged(a, b)}, key=lambda text: (len(text), text))
    left, right = a.encode(texts), b.encode(texts)
    for text, x, y in zip(texts, left, right, strict=True):
        if x != y:
            at = next((i for i, (m, n) in enumerate(zip(x, y, strict=False)) if m != n), min(len(x), len(y)))
            return f"{text!r}", f"ids {_few(x, at)}", f"ids {_few(y, at)}"
    for ids, p, q in zip(left, a.decode(left), b.decode(left), strict=True):
        if p != q:
            return f"ids {_few(ids)}", repr(p[:WIDTH]), repr(q[:WIDTH])
    return None


def _probes(side: _Side) -> list[str]:
    """Compose texts of many kinds: fixed ones, vocabulary entries alone and in pairs, added tokens among text."""
    draw = random.Random(0)
    ids = sorted(side.ids.values())
    drawn = draw.sample(ids, min(DRAWN, len(ids)))
    own = [text for text in side.decode([[i] for i in drawn]) if text]
    pairs = [draw.choice(own) + draw.choice(("", "", " ", "\n")) + draw.choice(own) for _ in own]
    added = list(side.added)[:100]
    among = [form.format(token) for token in added for form in ("{}", "a{}b", " {} ", "\n{}\n")]
    return [*TEXTS, *own, *pairs, *among, *(token.upper() for token in added)]


def _merged(a: _Side, b: _Side) -> list[str]:
    """Collect texts of tokens that only one side's merges make, or that stand in another place among them."""
    differing = [m for pair in zip_longest(a.merges, b.merges) if pair[0] != pair[1] for m in pair if m][:DRAWN]
    ids = [[a.ids[token]] for merge in differing if (token := merge.replace(" ", "")) in a.ids]
    return a.decode(ids)


def _few(ids: list[int], at: int = 0) -> str:
    """Format some of the ids as text, from shortly before place ``at``."""
    start = max(0, at - 2)
    shown = [str(i) for i in ids[start : start + SHOWN]]
    return f"[{', '.join([*['…'] * (start > 0), *shown, *['…'] * (len(ids) > start + SHOWN)])}]"


def _with(example: tuple[str, str, str] | None, left: str, right: str) -> tuple[str, str]:
    if example is None:
        return left, right
    text, x, y = example
    return f"{left} ({text}: {x})".strip(), f"{right} ({text}: {y})".strip()


def _tokens(a: Mapping[str, int], b: Mapping[str, int]) -> list[Mismatch]:
    differing = sorted((a.keys() | b.keys()) - {t for t in a.keys() & b.keys() if a[t] == b[t]})
    if not differing:
        return []
    named = ", ".join(repr(t) for t in differing[:SHOWN]) + (", …" if len(differing) > SHOWN else "")
    left = ", ".join(str(a.get(t, "absent")) for t in differing[:SHOWN])
    right = ", ".join(str(b.get(t, "absent")) for t in differing[:SHOWN])
    field = f"{len(differing)} of {len(a.keys() | b.keys())} tokens: {named}"
    return [Mismatch(FILE, field, f"id {left}", f"id {right}", SAME_TOKENIZER)]


def _added(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> list[Mismatch]:
    """List added tokens that only one side has, or that have another id or are special on one side only."""
    return [
        Mismatch(FILE, f"special token {token!r}", _flags(a.get(token)), _flags(b.get(token)), SAME_TOKENIZER)
        for token in sorted(a.keys() | b.keys())
        if _kind(a.get(token)) != _kind(b.get(token))
    ]


def _kind(token: Mapping[str, Any] | None) -> tuple[Any, Any] | None:
    return None if token is None else (token["id"], token.get("special"))


def _beyond_embedding(ids: Mapping[str, int], instruct: Checkpoint, thinking: Checkpoint) -> list[Mismatch]:
    """Find token ids that the embedding has no row for: they would fail in the middle of a run."""
    top = max(ids.values(), default=-1)
    sizes = [c.config.get("vocab_size") for c in (instruct, thinking)]
    if all(not isinstance(size, int) or top < size for size in sizes):
        return []
    remedy = f"the highest token id is {top}; use the tokenizer that belongs to these weights"
    return [Mismatch("config.json", "vocab_size", str(sizes[0]), str(sizes[1]), remedy)]


def _flags(token: Mapping[str, Any] | None) -> str:
    if token is None:
        return "absent"
    on = [k for k in ("special", "lstrip", "rstrip", "normalized", "single_word") if token.get(k)]
    return f"id {token['id']} ({', '.join(on) or 'no flags'})"


def _shown(left: Any, right: Any) -> tuple[str, str]:
    """Format both values so that the difference is seen: the first differing entry of lists, texts from there on."""
    if isinstance(left, list) and isinstance(right, list):
        at = next((i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), min(len(left), len(right)))
        shown = (f"{v[at]!r}" if at < len(v) else "nothing" for v in (left, right))
        x, y = (f"{text} at {at} of {len(v)}" for text, v in zip(shown, (left, right), strict=True))
        return x, y
    x, y = str(left), str(right)
    if len(x) + len(y) <= 2 * WIDTH:
        return x, y
    at = max(next((i for i, (p, q) in enumerate(zip(x, y, strict=False)) if p != q), min(len(x), len(y))) - 10, 0)
    return f"…{x[at : at + WIDTH]}…", f"…{y[at : at + WIDTH]}…"
