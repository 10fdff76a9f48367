"""Errors that are this package's and LangChain's at once.

LangChain's retry, fallback and summarisation middleware, and users who change models, look at the classes of
``langchain_core.exceptions``. What leaves the chat model is of both kinds, under its own name::

    ContextOverflow    ContextOverflowError         the summariser shortens its prompt; not retried
    EngineBusy         ModelRateLimitError          retried
    DeadlineExceeded   ModelTimeoutError            retried; also a builtin TimeoutError
    EngineClosed       ModelConnectionError         retried: the next call opens the engine again
    OutputError        OutputParserException        retried: another draw may parse
    other RunError     ModelAPIError                retried
    UsageError         ModelInvalidRequestError     not retried; also a ValueError
    CheckpointNotFound ModelNotFoundError           not retried
    all others         ModelError                   not retried
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from langchain_core import exceptions
from langchain_core.exceptions import LangChainException, OutputParserException

from dami_agent.errors import (
    BudgetExhausted,
    Cancelled,
    CheckpointNotFound,
    ContextOverflow,
    DamiError,
    DeadlineExceeded,
    EngineBusy,
    EngineClosed,
    OutputError,
    RunError,
    UsageError,
)

__all__ = ["as_langchain_error", "langchain_errors"]


def _langchain(name: str) -> type[Exception]:
    """Return a class of ``langchain_core.exceptions``; its common base where this langchain-core has none."""
    return cast("type[Exception]", getattr(exceptions, name, LangChainException))


_INVALID = _langchain("ModelInvalidRequestError")
_KINDS: Mapping[type[DamiError], tuple[type[Exception], ...]] = {  # the first that fits counts
    ContextOverflow: (_langchain("ContextOverflowError"), _INVALID),
    EngineBusy: (_langchain("ModelRateLimitError"),),
    DeadlineExceeded: (_langchain("ModelTimeoutError"), TimeoutError),
    EngineClosed: (_langchain("ModelConnectionError"),),
    OutputError: (OutputParserException,),
    BudgetExhausted: (_langchain("ModelError"),),
    Cancelled: (_langchain("ModelError"),),
    RunError: (_langchain("ModelAPIError"),),
    UsageError: (_INVALID,),
    CheckpointNotFound: (_langchain("ModelNotFoundError"),),
    DamiError: (_langchain("ModelError"),),
}


@contextmanager
def langchain_errors() -> Iterator[None]:
    """Raise this package's errors from inside as LangChain's too; also a decorator for plain functions."""
    try:
        yield
    except DamiError as error:
        both = as_langchain_error(error)
        if both is error:
            raise
        raise both.with_traceback(error.__traceback__) from error.__cause__


def as_langchain_error(error: DamiError) -> DamiError:
    """Return ``error`` as an instance of its own class and of LangChain's for the same condition, otherwise the same.

    Returns:
        ``error`` itself, if it is LangChain's already.
    """
    if isinstance(error, LangChainException):
        return error
    both = _both(type(error))
    made = both.__new__(both, *error.args)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    if isinstance(made, OutputParserException):
        made.observation, made.llm_output, made.send_to_llm = None, getattr(error, "text", None), False
    return made


_classes: dict[type[DamiError], type[DamiError]] = {}


def _both(own: type[DamiError]) -> type[DamiError]:
    if own not in _classes:
        theirs = next(kinds for base, kinds in _KINDS.items() if issubclass(own, base))
        bases = own, *dict.fromkeys(theirs)
        members = {"__module__": own.__module__, "__doc__": own.__doc__, "__reduce__": _reduce, "_own": own}
        _classes.setdefault(own, type(own.__name__, bases, members))  # the first of two threads gives it to both
    return _classes[own]


def _reduce(error: Any) -> tuple[Any, ...]:
    """Pickle an error: the class itself is made anew where it is read."""
    return _rebuild, (error._own, error.args, error.__dict__)


def _rebuild(own: type[DamiError], args: tuple[Any, ...], state: Mapping[str, Any]) -> DamiError:
    error = own.__new__(own, *args)
    error.args = args
    error.__dict__.update(state)
    return as_langchain_error(error)
