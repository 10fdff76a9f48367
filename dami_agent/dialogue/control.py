"""Control tokens come from the template only: text that merely looks like one stays text.

Every control string in untrusted text (messages, tool names, schemas, arguments) is broken by a *marker*, a character
of private use chosen afresh for each render, before the template sees it; so the template's own logic (``'</think>' in
content``) is not fooled either. After rendering the markers are taken out again but their places remembered: a control
string with a marker inside is untrusted. If there is none, the text is encoded as the tokenizer always does. If there
is one, it is encoded by a copy of the tokenizer whose control tokens have secret spellings, with the template's own
occurrences spelled that way: the same pipeline in one pass, so every other token comes out as ever.

Whatever a caller sends, the other threads go on: text is searched window by window, and encoded without the
interpreter's lock. Nothing here knows a message.
"""

from __future__ import annotations

import json
import re
import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

from tokenizers import Tokenizer, decoders, normalizers

from dami_agent.errors import ContextOverflow, InvalidRequest

MARKERS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
"""Strings that template and parser give meaning to, whether or not they are tokens of their own."""

_LOOKS_LIKE_CONTROL = re.compile(r"<\S+>|\[/?[A-Z_]+\]")
_EDGES = "<>|/[]"
_PRIVATE_USE = range(0xE000, 0xF8FF)
_WINDOW = 1 << 16  # characters searched in one go: a few milliseconds
_MARKER_LENGTH = len("\\ue000")  # as JSON may spell it
_LONG = 1 << 14  # characters; text of this length or more is encoded without the interpreter's lock
_COMPOSED = 4  # NFC makes text at most this many times shorter, in UTF-8


class ChatTokenizer(Protocol):
    """What is used of transformers' ``PreTrainedTokenizerFast``."""

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """Return the tokenizers library's object inside."""
        ...

    def apply_chat_template(self, conversation: Any, tools: Any = ..., **kwargs: Any) -> Any:
        """Render messages with a Jinja template."""
        ...


class ControlEscaper:
    """Breaks control strings in untrusted text, for one render."""

    def __init__(self, guard: ControlGuard, marker: str) -> None:
        self._guard = guard
        self.marker = marker
        self._markers = re.compile(f"{marker}|\\\\u{ord(marker):04x}", re.IGNORECASE)

    def text(self, text: str) -> str:
        """Put a marker into each control string of a text, and where its neighbours could complete one."""
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # a lone surrogate is no text
        positions = sorted(self._guard.marker_positions(text))
        if not positions:
            return text
        return self.marker.join(text[a:b] for a, b in zip([0, *positions], [*positions, len(text)], strict=True))

    def value(self, value: Any) -> Any:
        """Break all strings of a JSON value, keys included, the same way."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(k)): self.value(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(v) for v in value]
        return value

    def split(self, rendered: str) -> tuple[str, list[int]]:
        """Split a rendered text into the text without markers, and where they were (offsets into it, ascending)."""
        pieces: list[str] = []
        markers, offset, begin = [], 0, 0
        for start, end in _spans(self._markers, rendered, _MARKER_LENGTH):
            pieces.append(rendered[begin:start])
            offset += start - begin
            markers.append(offset)
            begin = end
        return "".join([*pieces, rendered[begin:]]), markers


class ControlGuard:
    """Knows a tokenizer's control tokens and encodes rendered text so that only the template's own become their ids.

    Args:
        tokenizer: a fast tokenizer.
        control: the strings to protect; None: every special token, and every other added token that looks like one
            (``<…>`` or ``[…]``). The markers of thoughts and tool calls always belong to them.
    """

    def __init__(self, tokenizer: ChatTokenizer, control: Collection[str] | None = None) -> None:
        self._source = tokenizer.backend_tokenizer
        added = self._source.get_added_tokens_decoder()
        self._added = {token.content: id_ for id_, token in added.items()}
        if control is None:
            control = [t.content for t in added.values() if t.special or _LOOKS_LIKE_CONTROL.fullmatch(t.content)]
        # A control token of one character cannot be broken inside; there is none in the supported families.
        self.strings = frozenset(c for c in chain(control, MARKERS) if len(c) > 1)
        self.ids = {c: self._added[c] for c in self.strings if c in self._added}
        self._find = re.compile(f"(?=(?:{_alternatives(self.strings)}))", re.IGNORECASE)
        self._tokens = re.compile(_alternatives(self._added) or "(?!)")
        lower = [c.lower() for c in self.strings]
        self._prefixes = {c[:k] for c in lower for k in range(1, len(c))}
        self._suffixes = {c[-k:] for c in lower for k in range(1, len(c))}
        self._cores = {c.strip(_EDGES) for c in lower} - {""}
        self._longest = max(map(len, lower))
        # Spellings of the control tokens that no text contains. Made here, not when needed: threads must agree on them.
        key = secrets.token_hex(16)
        self._secrets = {c: f"\ue000{key}{n:08x}\ue000" for n, c in enumerate(sorted(self.ids))}

    def escaper(self, texts: Iterable[str]) -> ControlEscaper:
        """Make an escaper whose marker occurs in none of ``texts`` (all that the template will see, and itself)."""
        taken = set()
        for text in texts:
            taken |= set(text)
            taken |= {chr(int(code, 16)) for code in re.findall(r"\\u([0-9a-fA-F]{4})", text)}
        free = [c for c in map(chr, _PRIVATE_USE) if c not in taken]
        if not free:
            raise InvalidRequest(
                "the messages use all 6,400 private-use characters of Unicode, none is left to mark text with",
                hint="remove characters U+E000 to U+F8FF from the messages",
            )
        return ControlEscaper(self, secrets.choice(free))

    def marker_positions(self, text: str) -> set[int]:
        """Find where markers must go in untrusted text: into control strings, and at edges that could complete one."""
        windows = range(0, len(text), _WINDOW)
        found = (self._find.finditer(text, w, w + _WINDOW + self._longest - 1) for w in windows)
        positions = {match.start() + 1 for match in chain.from_iterable(found)}
        longest = min(self._longest - 1, len(text))
        head, tail = text[:longest].lower(), text[len(text) - longest :].lower()
        if any(tail[-k:] in self._prefixes for k in range(1, len(tail) + 1)):
            positions.add(len(text))
        if any(head[:k] in self._suffixes for k in range(1, len(head) + 1)):
            positions.add(0)
        if len(text) <= self._longest and text.lower().strip(_EDGES) in self._cores:
            positions.add(0)  # a tool named "think" in a template that writes <{{ name }}>
        return positions

    def encode(self, text: str, markers: list[int], most: int | None = None) -> list[int]:
        """Encode rendered text as token ids; control strings with a marker inside are encoded as the text they are.

        Args:
            text: without markers.
            markers: where they were.
            most: what cannot have so few tokens is refused before it is encoded; None encodes any text.

        Raises:
            ContextOverflow: the text has more than ``most`` tokens for certain.
            InvalidRequest: the tokenizer makes a control token out of plain text whatever one does.
        """
        least = self.least_tokens(text)
        if most is not None and least > most:
            raise ContextOverflow(
                f"{len(text)} characters of prompt are at least {least} tokens and do not fit the context window of "
                f"{most} tokens",
                hint="shorten the messages, or open the engine with a larger context_length",
            )
        spans, clean = self.control_spans(text, markers)
        ids: list[int] = []
        if clean:
            ids = _ids(self._plain, text)
            if self._count(ids) == len(spans):
                return ids
        pieces, offset = [], 0
        for start, end in spans:
            pieces += [text[offset:start], self._secrets[text[start:end]]]
            offset = end
        ids = _ids(self._renamed, "".join([*pieces, text[offset:]]))
        if self._count(ids) != len(spans):
            raise InvalidRequest(
                "this tokenizer makes a control token out of plain text in the messages",
                hint="remove the text that spells a control token, or use a tokenizer with added control tokens",
            )
        return ids

    def least_tokens(self, text: str) -> int:
        """Return a number of tokens that ``text`` has at least, without encoding it; 0 where nothing is known."""
        return len(text.encode("utf-8", "replace")) // self._most_bytes if self._most_bytes else 0

    @cached_property
    def _most_bytes(self) -> int:
        """Return the most bytes of text that one token can stand for; 0 if that is not known.

        It is known of byte-level tokenizers: a token's letters stand for one byte each, an added one's for themselves.
        """
        normalizer = self._source.normalizer
        composes = isinstance(normalizer, normalizers.NFC)
        if not isinstance(self._source.decoder, decoders.ByteLevel) or (normalizer is not None and not composes):
            return 0
        longest = max(len(token.encode()) if token in self._added else len(token) for token in self._source.get_vocab())
        return longest * (_COMPOSED if composes else 1)

    def control_spans(self, text: str, markers: list[int]) -> tuple[list[tuple[int, int]], bool]:
        """Find the template's own control tokens, leftmost longest; and whether no untrusted one is there."""
        spans, clean, offset = [], True, 0
        longest = max(map(len, self._added), default=1)
        while found := next(_spans(self._tokens, text, longest, offset), None):
            start, end = found
            if text[start:end] not in self.ids:
                offset = end
            elif bisect_right(markers, start) == bisect_left(markers, end):
                spans.append((start, end))
                offset = end
            else:
                clean, offset = False, start + 1
        return spans, clean

    def _count(self, ids: Iterable[int]) -> int:
        control = set(self.ids.values())
        return sum(i in control for i in ids)

    @cached_property
    def _spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads(self._source.to_str())
        return spec | {"truncation": None, "padding": None}

    @cached_property
    def _plain(self) -> Tokenizer:
        """Copy the tokenizer: transformers changes the shared one's truncation during calls from other threads."""
        return Tokenizer.from_str(json.dumps(self._spec))

    @cached_property
    def _renamed(self) -> Tokenizer:
        """Copy the tokenizer with secretly spelled control tokens at unchanged ids."""
        spec = json.loads(json.dumps(self._spec)) | {"post_processor": None}
        for token in spec["added_tokens"]:
            token["content"] = self._secrets.get(token["content"], token["content"])
        vocab = spec["model"].get("vocab")
        if isinstance(vocab, dict):
            spec["model"]["vocab"] = {self._secrets.get(t, t): i for t, i in vocab.items()}
        elif isinstance(vocab, list):  # Unigram: [piece, score]
            spec["model"]["vocab"] = [[self._secrets.get(t, t), score] for t, score in vocab]
        try:
            copy = Tokenizer.from_str(json.dumps(spec))
        except Exception as error:  # tokenizers raises bare Exception
            raise InvalidRequest(
                f"cannot tell control tokens from text with this tokenizer: {error}",
                hint="control tokens must be added tokens that no merge produces",
            ) from error
        moved = [c for c, i in self._added.items() if copy.token_to_id(self._secrets.get(c, c)) != i]
        if moved:
            raise InvalidRequest(
                f"cannot tell control tokens from text with this tokenizer: ids of {moved} would move",
                hint="control tokens must be added tokens that no merge produces",
            )
        return copy


def _spans(pattern: re.Pattern[str], text: str, longest: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield where ``pattern`` matches, as ``finditer`` does; other threads may run after every window.

    Args:
        pattern: matches no more than ``longest`` characters, and looks neither behind nor ahead.
        text: to be searched.
        longest: of a match.
        start: where to begin.
    """
    while start < len(text):
        match = pattern.search(text, start, start + _WINDOW + longest)
        if match is None or match.start() >= start + _WINDOW:  # near a window's end a longer match may be cut off
            start += _WINDOW
        else:
            yield match.span()
            start = match.end()


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of ``text``. A batch is encoded without the interpreter's lock, a single text is not."""
    if len(text) < _LONG:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)
    return list(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)


def _alternatives(strings: Iterable[str]) -> str:
    """Return a regex for any of ``strings``, longest first, so that a match is the leftmost longest one."""
    return "|".join(re.escape(s) for s in sorted(strings, key=lambda s: (-len(s), s)))
