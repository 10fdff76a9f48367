"""Hold one lock around everything that lets transformers build or load a model: the library patches itself to do so.

While ``from_pretrained`` runs, ``PreTrainedModel.tie_weights`` is an empty function and torch has another default
dtype; accelerate's ``init_empty_weights`` replaces ``nn.Module.register_parameter``. Each is put back afterwards to
what it *was*, so two loads that overlap leave one's patch behind for good. Loads of this package run one at a time.
Threads of others may load too: what they left behind is put right before a load, and a load that ran into another is
repeated. A process forked in the middle of a load gets everything back as it was before, and a lock of its own.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from dami_agent.errors import CheckpointError

logger = logging.getLogger(__name__)
T = TypeVar("T")

ATTEMPTS = 3  # loads that ran into somebody else's are repeated up to this often
PATIENCE = 5.0  # seconds given to a load of others to end before what it patched is put back
_STEP = 0.02

_lock = threading.RLock()
_depth = 0  # of nested sections in the thread that holds the lock
_before: dict[str, Any] | None = None  # what the process had before the section that is running now, for a fork
_genuine: dict[str, Any] = {}  # name of a patch -> the library's own function, once it has been seen without it


def load(call: Callable[[], T]) -> T:
    """Run ``call``, which builds or loads models, with nobody else's patches in its way.

    It runs again if a load outside this package overlapped with it, since its model may have been built wrongly.

    Raises:
        CheckpointError: other threads of this process load without a pause, or left transformers patched before this
            package could see its own functions.
    """
    for _ in range(ATTEMPTS):
        with exclusively():
            _settle()
            result = call()
            if not patched():
                return result
        logger.warning("another thread loaded a transformers model at the same time; loading again")
    raise CheckpointError(
        "another thread of this process keeps loading transformers models, which replaces functions of the library",
        hint="load one model after another, or open the pair first",
    )


@contextmanager
def exclusively() -> Iterator[None]:
    """Hold the process-wide lock (the same thread may hold it twice) and leave the libraries' functions unpatched."""
    global _depth, _before
    with _lock:
        if not _depth:
            _settle()
            _before = _settings()
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1
            if not _depth:
                _before = None


def _places() -> dict[str, tuple[Any, str]]:
    """List the attributes that loading replaces, by the name of the context manager that does it."""
    from accelerate.utils import modeling  # torch is asked through accelerate: this layer imports none
    from transformers import PreTrainedModel

    torch: Any = modeling.torch
    return {
        "no_tie_weights": (PreTrainedModel, "tie_weights"),
        "init_on_device": (torch.nn.Module, "register_parameter"),
        "meta_device_safe_creation_ops": (torch, "linspace"),
    }


def patched() -> list[str]:
    """Name the context managers whose patches are in place now."""
    found = []
    for name, (owner, attribute) in _places().items():
        function = getattr(owner, attribute)
        if getattr(function, "__qualname__", "").startswith(f"{name}.<locals>."):
            found.append(name)
        else:
            _genuine[name] = function
    return found


def _settle() -> None:
    """Wait until nobody's patches are in place; put back what stays. Raises ``CheckpointError`` where it cannot."""
    end = time.monotonic() + PATIENCE
    while (names := patched()) and time.monotonic() < end:
        time.sleep(_STEP)
    for name in names:
        if name not in _genuine:
            raise CheckpointError(
                f"another load in this process left transformers patched ({name}), so models are built wrongly",
                hint="start a new process; load models one after another, from one thread",
            )
        owner, attribute = _places()[name]
        setattr(owner, attribute, _genuine[name])
        logger.warning("another load in this process left %s replaced; it was put back", attribute)


def _settings() -> dict[str, Any]:
    """Read the process's settings that loading changes for a while."""
    from accelerate.utils import modeling
    from transformers.utils import logging as library

    progress: Any = library
    return {
        "dtype": modeling.torch.get_default_dtype(),
        "verbosity": progress.get_verbosity(),
        "bars": progress.is_progress_bar_enabled(),
    }


def _after_fork() -> None:
    """Make a fresh lock in a forked child, and undo the load that the fork interrupted."""
    global _lock, _depth, _before
    interrupted, _before, _depth = _before, None, 0
    _lock = threading.RLock()
    if interrupted is None:
        return
    from accelerate.utils import modeling
    from transformers.utils import logging as library

    progress: Any = library
    for name, (owner, attribute) in _places().items():
        setattr(owner, attribute, _genuine[name])
    modeling.torch.set_default_dtype(interrupted["dtype"])
    progress.set_verbosity(interrupted["verbosity"])
    (progress.enable_progress_bar if interrupted["bars"] else progress.disable_progress_bar)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
