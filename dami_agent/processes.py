"""Worker processes that do not outlive the one that started them."""

from __future__ import annotations

import multiprocessing
import os
from threading import Thread


def end_with_parent() -> None:
    """End as soon as the parent is gone, however it was killed; called in a worker.

    Otherwise workers would go on computing for nobody, or writing into a folder that another run has taken up.
    """
    Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
