"""Do two checkpoints read and write the same token ids? Compares their tokenizer files; no tokenizer is built.

Everything that decides ids or text counts: the full token → id map, merges, normalisation, pre-tokenisation, decoding,
and every added token with its flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dami_agent.checkpoints.checkpoint import Checkpoint
from dami_agent.checkpoints.headers import read_json
from dami_agent.errors import Mismatch

FILE = "tokenizer.json"
SAME_TOKENIZER = "use checkpoints with one tokenizer; token ids must mean the same in both"
WIDTH = 80  # characters of a long value that are shown
PIPELINE = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
SHOWN = 6  # differing tokens named in a message; the number of all is always given


def token_ids(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """The full token → id map of a parsed tokenizer.json: model vocabulary and added tokens."""
    vocab = tokenizer.get("model", {}).get("vocab", {})
    if isinstance(vocab, list):  # Unigram: a list of [token, score]
        ids = {str(entry[0]): index for index, entry in enumerate(vocab)}
    else:
        ids = {str(token): int(index) for token, index in vocab.items()}
    return ids | {str(t["content"]): int(t["id"]) for t in tokenizer.get("added_tokens", [])}


def compare_vocabularies(instruct: Checkpoint, thinking: Checkpoint) -> list[Mismatch]:
    """Every difference between the two tokenizers that changes ids or text."""
    paths = instruct.path / FILE, thinking.path / FILE
    if paths[0].read_bytes() == paths[1].read_bytes():
        one = read_json(paths[0])
        return _beyond_embedding(one, instruct, thinking)
    a, b = read_json(paths[0]), read_json(paths[1])
    found = _tokens(token_ids(a), token_ids(b)) + _added(a, b)
    models = a.get("model", {}), b.get("model", {})
    for key in sorted((set(models[0]) | set(models[1])) - {"vocab"}):
        left, right = models[0].get(key), models[1].get(key)
        if key == "merges" and left is not None and right is not None:
            left, right = _merges(left), _merges(right)
        if left != right:
            found.append(Mismatch(FILE, f"model.{key}", *_shown(left, right), SAME_TOKENIZER))
    for key in PIPELINE:
        if a.get(key) != b.get(key):
            found.append(Mismatch(FILE, key, *_shown(a.get(key), b.get(key)), SAME_TOKENIZER))
    return found + _beyond_embedding(a, instruct, thinking)


def _tokens(a: dict[str, int], b: dict[str, int]) -> list[Mismatch]:
    differing = sorted((a.keys() | b.keys()) - {t for t in a.keys() & b.keys() if a[t] == b[t]})
    if not differing:
        return []
    named = ", ".join(repr(t) for t in differing[:SHOWN]) + (", …" if len(differing) > SHOWN else "")
    left = ", ".join(str(a.get(t, "absent")) for t in differing[:SHOWN])
    right = ", ".join(str(b.get(t, "absent")) for t in differing[:SHOWN])
    field = f"{len(differing)} of {len(a.keys() | b.keys())} tokens: {named}"
    return [Mismatch(FILE, field, f"id {left}", f"id {right}", SAME_TOKENIZER)]


def _added(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Mismatch]:
    left, right = ({t["content"]: t for t in x.get("added_tokens", [])} for x in (a, b))
    return [
        Mismatch(FILE, f"special token {token!r}", _flags(left.get(token)), _flags(right.get(token)), SAME_TOKENIZER)
        for token in sorted(left.keys() | right.keys())
        if left.get(token) != right.get(token)
    ]


def _beyond_embedding(tokenizer: Mapping[str, Any], instruct: Checkpoint, thinking: Checkpoint) -> list[Mismatch]:
    """A token id that the embedding has no row for would fail in the middle of a run."""
    top = max(token_ids(tokenizer).values(), default=-1)
    sizes = [c.config.get("vocab_size") for c in (instruct, thinking)]
    if all(not isinstance(size, int) or top < size for size in sizes):
        return []
    remedy = f"the highest token id is {top}; use the tokenizer that belongs to these weights"
    return [Mismatch("config.json", "vocab_size", str(sizes[0]), str(sizes[1]), remedy)]


def _merges(merges: list[Any]) -> list[str]:
    """``["a b"]`` and ``[["a", "b"]]`` are the same merges in two versions of the format."""
    return [m if isinstance(m, str) else " ".join(m) for m in merges]


def _flags(token: Mapping[str, Any] | None) -> str:
    if token is None:
        return "absent"
    on = [k for k in ("special", "lstrip", "rstrip", "normalized", "single_word") if token.get(k)]
    return f"id {token['id']} ({', '.join(on) or 'no flags'})"


def _shown(left: Any, right: Any) -> tuple[str, str]:
    """Both values so that the difference is seen: of lists the first entry that differs, of texts from there on."""
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
