"""Set how many threads a forward pass uses on a CPU."""

from __future__ import annotations

import logging

import torch

from dami_agent.weights import Weights

__all__ = ["limit_threads"]

# Below this the matrices are so small that a second thread mostly waits for the first. Decoding with 3 to 33 million
# parameters on two cores that had other work too took 8 to 20 times the CPU time with two threads, and was slower.
_ONE_THREAD_BYTES = 64 << 20

log = logging.getLogger(__name__)


def limit_threads(weights: Weights) -> None:
    """Compute on one thread from now on if the model is tiny; to be called by the thread that runs it.

    OpenMP keeps this number per thread, so models that other threads run keep torch's own; ``torch.set_num_threads``
    would change it for the whole process.
    """
    if weights.device.type != "cpu" or weights.nbytes().get("instruct", 0) >= _ONE_THREAD_BYTES:
        return
    from threadpoolctl import ThreadpoolController  # here, for GPU machines that lack it

    torch.get_num_threads()  # torch sets the calling thread's number when it is first needed there
    ThreadpoolController().select(user_api="openmp").limit(limits=1)
    log.debug("the model is small: its thread computes without helpers")
