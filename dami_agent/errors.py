"""Define every exception this package raises on purpose, in one tree.

::

    DamiError
    ├── UsageError                  you asked for something that cannot be (also a ValueError)
    │   ├── InvalidIntensity        λ is not a finite number in [0, 1], or not a known name
    │   ├── InvalidRequest          messages, sampling or limits that make no sense together
    │   │   └── ContextOverflow     prompt + max_tokens do not fit the context window
    │   ├── InvalidSchema           a tool's or an output's JSON schema is malformed
    │   └── InvalidPolicy           a policy or frontier file does not validate
    ├── CheckpointError             two checkpoints that cannot be used as a pair
    │   ├── CheckpointNotFound      a folder, file or hub id that is not there
    │   ├── UnsupportedCheckpoint   quantised, GGUF, adapter, pickle, remote code, not finite
    │   ├── IncompatiblePair        the two do not fit; lists every mismatch
    │   └── InsufficientMemory      no weights mode fits what the device has
    ├── RunError                    the call was fine, the run failed
    │   ├── EngineClosed            the engine was closed under the request
    │   ├── EngineBusy              the bounded queue is full
    │   ├── BudgetExhausted         a run's or thread's budget is used up
    │   ├── Cancelled               the caller cancelled
    │   ├── DeadlineExceeded        the deadline passed before an answer was there
    │   ├── CheckFailed             the user's own check of a reply raised, or said neither yes nor no
    │   └── OutputError             the answer breaks what was asked of it
    │       ├── OutputTruncated     a cap came before the structured output was complete
    │       └── OutputInvalid       the output does not parse or validate
    └── LedgerError                 a ledger that cannot be opened, read or migrated

Each says what was wrong, where, and what to do next: ``hint`` carries the last of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dami_agent.types import Generation

__all__ = [
    "BudgetExhausted",
    "Cancelled",
    "CheckFailed",
    "CheckpointError",
    "CheckpointNotFound",
    "ContextOverflow",
    "DamiError",
    "DeadlineExceeded",
    "EngineBusy",
    "EngineClosed",
    "IncompatiblePair",
    "InsufficientMemory",
    "InvalidIntensity",
    "InvalidPolicy",
    "InvalidRequest",
    "InvalidSchema",
    "LedgerError",
    "Mismatch",
    "OutputError",
    "OutputInvalid",
    "OutputTruncated",
    "RunError",
    "UnsupportedCheckpoint",
    "UsageError",
]


class DamiError(Exception):
    """Serves as the base of all errors of this package.

    Args:
        message: what was wrong and where.
        hint: what to do next; printed after the message.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class UsageError(DamiError, ValueError):
    """Raised when the call itself was wrong; nothing was run."""


class InvalidIntensity(UsageError):
    """Raised for a reasoning intensity that is neither a finite number in [0, 1], one per module nor a known effort.

    One per module is refused too where the weights are not merged, or the model lacks a layer that it names.
    """


class InvalidRequest(UsageError):
    """Raised for messages, sampling parameters or limits that make no sense."""


class ContextOverflow(InvalidRequest):
    """Raised when the prompt (and the room asked for the reply) is longer than the context window."""


class InvalidSchema(UsageError):
    """Raised for a tool's or a structured output's JSON schema that cannot be made into a grammar."""


class InvalidPolicy(UsageError):
    """Raised for a policy or frontier that does not validate."""


class CheckpointError(DamiError):
    """Raised when checkpoints cannot be used."""


class CheckpointNotFound(CheckpointError):
    """Raised when a folder, a file in it or a hub id is not there (or not reachable)."""


class UnsupportedCheckpoint(CheckpointError):
    """Raised for a kind of checkpoint that cannot be interpolated, named together with its remedy."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Describes one difference between the two checkpoints of a pair.

    Attributes:
        file: the file it stands in, for example ``config.json``.
        field: the field, parameter or token in that file.
        instruct: the Instruct checkpoint's value, as text.
        thinking: the Thinking checkpoint's value, as text.
        remedy: what to do about it.
    """

    file: str
    field: str
    instruct: str
    thinking: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.field}: instruct={self.instruct} thinking={self.thinking} ({self.remedy})"


class IncompatiblePair(CheckpointError):
    """Raised for two checkpoints that cannot be interpolated; ``mismatches`` lists all of the differences."""

    def __init__(
        self,
        message: str,
        mismatches: Sequence[Mismatch] = (),
        *,
        hint: str | None = None,
    ) -> None:
        lines = "".join(f"\n  - {m}" for m in mismatches)
        super().__init__(message + lines, hint=hint)
        self.mismatches = tuple(mismatches)


class InsufficientMemory(CheckpointError):
    """Raised when no weights mode fits into the memory of the chosen device."""


class RunError(DamiError):
    """Raised when a sound request failed while it ran; ``generation`` is what had been decoded by then, or None."""

    generation: Generation | None = None


class EngineClosed(RunError):
    """Raised when the engine was closed before the request was finished."""


class EngineBusy(RunError):
    """Raised when the engine's bounded queue is full; try again later."""


class BudgetExhausted(RunError):
    """Raised when a run's (or thread's) budget has no room for another step; ``hint`` names the setting to raise."""


class Cancelled(RunError):
    """Raised when the caller cancelled the request."""


class DeadlineExceeded(RunError):
    """Raised when the deadline passed before the answer was complete."""


class CheckFailed(RunError):
    """Raised when the user's own check of a reply raised an error, or returned neither True nor False."""


class OutputError(RunError):
    """Raised when the output is not what was asked for; ``text`` holds all of it."""

    def __init__(self, message: str, *, text: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.text = text


class OutputTruncated(OutputError):
    """Raised when a token cap came before the structured output was complete."""


class OutputInvalid(OutputError):
    """Raised when the output does not parse or does not validate."""


@contextmanager
def one_error(what: str) -> Iterator[None]:
    """Raise whatever a caller's data breaks inside as ``InvalidRequest``; also a decorator for plain functions.

    Settings, schemas, messages and templates come from anywhere, and what they break is not a list of classes that one
    could name beforehand: recursion, overflow, numbers too long to print, keys that cannot be hashed.

    Args:
        what: whose data it is, for the message.
    """
    try:
        yield
    except DamiError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of a library in Rust
            raise
        raise InvalidRequest(f"{what} cannot be read: {type(error).__name__}: {shown(error)}") from error


def shown(value: object, most: int = 200) -> str:
    """Format ``value`` as text of at most ``most`` characters, whatever it is."""
    try:
        text = str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:  # a cycle, a number of 5,000 digits, a hostile __repr__
        text = f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}…"


class LedgerError(DamiError):
    """Raised when a ledger cannot be opened, read or migrated."""
