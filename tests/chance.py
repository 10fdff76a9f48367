"""Chance for the tests: the same in every run, so that a red run is the change's own, and new in `make fuzz`.

``DAMI_FUZZ`` in the environment makes it new; the end of the run says which ``DAMI_SEED`` has it again, and Hypothesis
how to have its failing examples again.
"""

from __future__ import annotations

import os
import random
import secrets
import sys

FUZZ = "DAMI_FUZZ" in os.environ
os.environ.setdefault("DAMI_SEED", str(random.randrange(2**31) if FUZZ else 0))  # workers inherit it
SEED = int(os.environ["DAMI_SEED"])

secrets.randbits = random.getrandbits  # where requests without a seed of their own have theirs from


def reset() -> None:
    """Set the generators of `random`, and of torch where it is imported, back to the start."""
    random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)
