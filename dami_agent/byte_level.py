"""Spell bytes as byte-level tokenizers do: GPT-2 gave each of the 256 bytes a printable character."""

from __future__ import annotations

__all__ = ["BYTES"]

_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_OTHERS = tuple(byte for byte in range(256) if byte not in _PRINTABLE)

BYTES: dict[str, int] = {chr(b): b for b in _PRINTABLE} | {chr(256 + n): b for n, b in enumerate(_OTHERS)}
"""The byte that each character of a byte-level token stands for."""
