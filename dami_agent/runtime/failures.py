"""Errors as callers see them, and guards that keep one request's trouble from the others."""

from __future__ import annotations

import copy
import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dami_agent.errors import DamiError, RunError
from dami_agent.runtime.sequence import SequenceState

__all__ = ["describe", "failing_alone", "not_finite", "panics_to_dami_error", "to_dami_error"]


def to_dami_error(error: BaseException) -> Exception:
    """Wrap an exception in a new error of ours per request; adds a hint for out-of-memory.

    A ``DamiError`` is copied, because every ``RunError`` carries its own request's partial generation; one that cannot
    be copied is returned itself. Never raises.
    """
    # The error may be kept for long; the frames it points to hold the batch's cache and logits.
    traceback.clear_frames(error.__traceback__)
    ours: Exception
    if isinstance(error, DamiError):
        try:
            ours = copy.copy(error)
        except BaseException:  # a class with a constructor of its own: better shared than lost
            return error
        if isinstance(ours, RunError):
            ours.generation = None
    else:
        memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        ours = RunError(
            f"the model failed: {describe(error)}",
            hint="the device is out of memory: lower max_batch_size, max_tokens or context_length" if memory else None,
        )
    ours.__cause__ = error
    return ours


def describe(error: BaseException) -> str:
    """Name an error's class and say its text, if it has one that can be had."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # a foreign __str__ may do anything
        return type(error).__name__


@contextmanager
def failing_alone(row: SequenceState) -> Iterator[None]:
    """Fail this row, and no other, with whatever is raised inside: also a panic of a tokenizer or grammar library."""
    try:
        yield
    except BaseException as error:  # Rust's panics are no Exception
        row.fail(to_dami_error(error))


@contextmanager
def panics_to_dami_error() -> Iterator[None]:
    """Turn a panic of a Rust library in a caller's thread into an error of ours; interrupts and exits pass."""
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise to_dami_error(error) from error


def not_finite(best: float, where: str) -> RunError:
    """Return the error of a request whose scores the model did not compute: ``best`` is the largest of them."""
    what = "-inf for every token" if best == -math.inf else "NaN" if math.isnan(best) else "+inf"
    return RunError(
        f"the model's scores for {where} are not finite ({what})",
        hint="the computation overflows for this prompt at this intensity: try dtype='float32', or another intensity",
    )
