"""Serve a pair by vLLM, with a λ of its own for every request of a batch; the extra ``vllm``.

:class:`VllmEngine` runs vLLM in this process, behind ``ChatDAMI(engine="vllm")``. What vLLM itself loads (models,
worker, scheduler, the check of a request) is registered by :mod:`dami_agent.integrations.vllm.plugin`. Nothing of vLLM
is imported before an engine is opened.
"""

from dami_agent.integrations.vllm.engine import VllmEngine

__all__ = ["VllmEngine"]
