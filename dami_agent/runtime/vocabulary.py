"""Read a tokenizer's vocabulary as bytes, the way a grammar needs it: which text each token id adds to an answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dami_agent.byte_level import BYTES

if TYPE_CHECKING:
    import llguidance
    from transformers import PreTrainedTokenizerBase

__all__ = ["Vocabulary"]

_LOOKS_LIKE_CONTROL = re.compile(r"<\S+>|\[/?[A-Z_]+\]")
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_NUMBER = re.compile(rb"[0-9.eE+-]+")
_DIGIT = re.compile(rb"[0-9]")


class Vocabulary:
    """The tokens of one model as bytes, made once per engine; a second or so for 152,000 tokens.

    Control tokens (special ones, and added ones that look like ``<think>`` or ``[INST]``) are no text: a grammar meets
    them only where it names them, so that no JSON string and no free text of a grammar can hold one.

    Args:
        tokenizer: a fast tokenizer.
        size: of the model's output; ids beyond the tokenizer's have no text and are never allowed.
        eos_ids: tokens that end an answer wherever its grammar may end.

    Attributes:
        tokens: bytes of each id, empty for ids without text.
        tokenizer: the same as llguidance takes it.
        quote: id of the token ``"``, or None.
        ends: ids of what may come after a number: ``,``, ``]``, ``}`` and the end of the answer.
        numeric: ids of the tokens that are made of what numbers are made of.
        numbers: (id, leading bytes that a JSON number may hold) of the tokens that may go on with a number.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, size: int, eos_ids: Sequence[int]) -> None:
        import llguidance

        backend: Any = tokenizer.backend_tokenizer
        added = {id_: t for id_, t in backend.get_added_tokens_decoder().items() if id_ < size}
        texts = {id_: text for text, id_ in backend.get_vocab(with_added_tokens=True).items() if id_ < size}
        ordinary = {id_: text for id_, text in texts.items() if id_ not in added}
        found = {**_spelled(backend, ordinary), **{id_: t.content.encode() for id_, t in added.items()}}
        self.tokens = [found.get(id_, b"") for id_ in range(size)]
        control = {id_ for id_, t in added.items() if t.special or _LOOKS_LIKE_CONTROL.fullmatch(t.content)}
        special = sorted(control | set(eos_ids))
        for id_ in eos_ids:  # an end of sequence beyond the tokenizer's ids still ends an answer
            self.tokens[id_] = self.tokens[id_] or f"<|end {id_}|>".encode()
        plain = {text: id_ for id_, text in enumerate(self.tokens) if id_ not in control}
        self.quote = plain.get(b'"')
        self.ends = sorted({*eos_ids, *(plain[end] for end in (b",", b"]", b"}") if end in plain)})
        self.numeric = [id_ for text, id_ in plain.items() if text and _NUMBER.fullmatch(text)]
        self.numbers = _numbers(self.tokens, control)
        ends = sorted(eos_ids)
        wrapped = llguidance.TokenizerWrapper(_Spelling(backend, self.tokens, special, ends[0] if ends else size - 1))
        self.tokenizer: llguidance.LLTokenizer = llguidance.LLTokenizer(wrapped, n_vocab=size, eos_token=ends or None)


class _Spelling:
    """What llguidance asks of a tokenizer."""

    bos_token_id = None

    def __init__(self, backend: Any, tokens: Sequence[bytes], special: Sequence[int], eos: int) -> None:
        self._backend = backend
        self.tokens = tokens
        self.special_token_ids = special
        self.eos_token_id = eos

    def __call__(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TypeError("text, not bytes")
        return list(self._backend.encode(text, add_special_tokens=False).ids)


def _spelled(backend: Any, texts: Mapping[int, str]) -> dict[int, bytes]:
    """Return the bytes of ordinary tokens, by the decoder that the tokenizer has."""
    state = b"" if backend.decoder is None else bytes(backend.decoder.__getstate__())
    kinds = set(re.findall(r'"type":\s*"(\w+)"', state.decode()))
    if "ByteLevel" in kinds:
        return {id_: _from_byte_level(text) for id_, text in texts.items()}
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        return {id_: _from_pieces(text) for id_, text in texts.items()}
    return _decoded(backend, texts)


def _from_byte_level(text: str) -> bytes:
    try:
        return bytes(BYTES[c] for c in text)
    except KeyError:  # spelled as it is
        return text.encode("utf-8", "replace")


def _from_pieces(text: str) -> bytes:
    """Return a SentencePiece token: ``▁`` is a space, ``<0x0A>`` a byte."""
    byte = _BYTE.fullmatch(text)
    return bytes([int(byte[1], 16)]) if byte else text.replace("▁", " ").encode("utf-8", "replace")


def _decoded(backend: Any, texts: Mapping[int, str]) -> dict[int, bytes]:
    """Return what a token adds to another's text, for any other tokenizer; nothing where no whole character."""
    if not texts:
        return {}
    anchor = next((id_ for id_, text in texts.items() if text.isalnum()), next(iter(texts)))
    lead = backend.decode([anchor], skip_special_tokens=False)
    both = backend.decode_batch([[anchor, id_] for id_ in texts], skip_special_tokens=False)
    added = {id_: text[len(lead) :] if text.startswith(lead) else "" for id_, text in zip(texts, both, strict=True)}
    return {id_: b"" if "\ufffd" in text else text.encode("utf-8", "replace") for id_, text in added.items()}


def _numbers(tokens: Iterable[bytes], control: set[int]) -> tuple[tuple[int, bytes], ...]:
    leading = ((id_, _NUMBER.match(text)) for id_, text in enumerate(tokens) if id_ not in control)
    return tuple((id_, match[0]) for id_, match in leading if match is not None and _DIGIT.search(match[0]))
