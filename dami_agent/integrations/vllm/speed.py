"""Measure what a λ per request costs vLLM: ``python -m dami_agent.integrations.vllm.speed``.

Each row runs in a process of its own, over random weights: vLLM as it is, and the same with two endpoints' weights and
requests of one, eight or 32 λs. CPU seconds are counted, so that other programs on the machine do not matter much.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dami_agent.integrations.vllm.plugin import ARCHITECTURES, THINKING, arguments_for_intensities, register
from dami_agent.integrations.vllm.request_arguments import RequestIntensities

REQUESTS, PROMPT, OUTPUT, READ = 32, 16, 32, 384

Intensities = Callable[[int], RequestIntensities | None]

ROWS: dict[str, tuple[str, Intensities]] = {
    "plain": ("decode", lambda _: None),
    "one_lambda": ("decode", lambda _: RequestIntensities(intensity=0.5, prefix_intensity=0.5)),
    "eight_lambdas": ("decode", lambda i: _exact((i % 8 + 1) / 9)),
    "thirty_two_lambdas": ("decode", lambda i: _exact((i + 1) / 33)),
    "at_one_end": ("decode", lambda _: _exact(1.0)),
    "plain_prefill": ("prefill", lambda _: None),
    "exact_prefill": ("prefill", lambda i: _exact((i % 8 + 1) / 9)),
    "shared_prefill": (
        "prefill",
        lambda i: RequestIntensities(intensity=(i % 8 + 1) / 9, prefix_intensity=1.0, prefix_tokens=READ - 1),
    ),
}
"""By name: what is counted (tokens decoded, or read), and λ of each request; None is vLLM as it is."""


def _exact(at: float) -> RequestIntensities:
    return RequestIntensities(intensity=at, prefix_intensity=at)


def write_random_pair(folder: Path, *, parameters: str) -> tuple[Path, Path]:
    """Write two random checkpoints of Qwen3's architecture: ``190m``, or ``tiny`` for tests."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    sizes: dict[str, Any] = (
        {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 10, "vocab_size": 32_000}
        if parameters == "190m"
        else {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 320}
    )
    heads: dict[str, Any] = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 64}
    config = Qwen3Config(**sizes, **heads, max_position_embeddings=2048, tie_word_embeddings=True)
    folders = folder / "instruct", folder / "thinking"
    for seed, each in enumerate(folders):
        torch.manual_seed(seed)
        model: Any = Qwen3ForCausalLM(config)
        model.to(torch.bfloat16).save_pretrained(each)
    return folders


def measure(name: str, instruct: Path, thinking: Path) -> dict[str, float]:
    """Run one row in this process, after a warm-up, and return its tokens and CPU seconds."""
    import os

    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM, SamplingParams

    kind, intensities = ROWS[name]
    mixed = intensities(0) is not None
    arguments: dict[str, Any] = {
        "model": str(instruct),
        "skip_tokenizer_init": True,
        "dtype": "bfloat16",
        "max_model_len": 1024,
        "max_num_batched_tokens": REQUESTS * READ,
        "enable_prefix_caching": False,
        "kv_cache_memory_bytes": 2**30,
        "disable_log_stats": True,
    }
    if mixed:
        register()
        arguments |= {
            "hf_overrides": {"architectures": [ARCHITECTURES["Qwen3ForCausalLM"]]},
            "additional_config": {THINKING: str(thinking)},
            **arguments_for_intensities(asynchronous=False),
        }
    llm = LLM(**arguments)
    length, output = (PROMPT, OUTPUT) if kind == "decode" else (READ, 1)
    prompts = [{"prompt_token_ids": [(7 * i + j) % 300 + 1 for j in range(length)]} for i in range(REQUESTS)]
    parameters = [
        SamplingParams(
            max_tokens=output, ignore_eos=True, temperature=0.0, detokenize=False,
            extra_args=None if (at := intensities(i)) is None else at.write(),
        )
        for i in range(REQUESTS)
    ]  # fmt: skip
    llm.generate(prompts, parameters, use_tqdm=False)
    before = _cpu_seconds()
    rounds = 3
    for _ in range(rounds):
        llm.generate(prompts, parameters, use_tqdm=False)
    tokens = rounds * REQUESTS * (output if kind == "decode" else length)
    return {"tokens": tokens, "cpu_seconds": _cpu_seconds() - before}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print one row per line, with its tokens per CPU second and its share of plain vLLM's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", choices=("190m", "tiny"), default="190m")
    parser.add_argument("--rows", default=",".join(ROWS), help="comma-separated")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--pair", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given.only, given.pair / "instruct", given.pair / "thinking")))
        return
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        write_random_pair(Path(scratch), parameters=given.parameters)
        for name in given.rows.split(","):
            command = [sys.executable, "-m", __spec__.name, "--only", name, "--pair", scratch]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            row = json.loads(said.strip().splitlines()[-1])
            rates[name] = row["tokens"] / row["cpu_seconds"]
            reference = rates.get("plain" if ROWS[name][0] == "decode" else "plain_prefill")
            ratio = rates[name] / reference if reference else None
            print(
                json.dumps({"name": name, "tokens_per_cpu_second": round(rates[name], 1), "of_plain": ratio}),
                flush=True,
            )


if __name__ == "__main__":
    main()
