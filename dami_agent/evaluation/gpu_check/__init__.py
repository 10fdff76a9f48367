"""Check and measure the engine on a GPU machine that has torch, transformers and accelerate and little else.

One command (``make gpu-check``), some minutes, part by part; one JSON file that a second run goes on with.
"""

from __future__ import annotations
