"""`python -m dami_agent.training STAGE ...`: build the tokenizer, pretrain, fine-tune, evaluate.

tokenizer --to DIR              train the tokenizer and write a randomly initialised pair
base      --run DIR --pair DIR  pretrain (resumes), write DIR/base
tune      --run DIR --pair DIR --role instruct|thinking
evaluate  --pair DIR            accuracy and tokens along the path, tool calls, agent tasks
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from dami_agent.training import export, loop, recipe
from dami_agent.training import tokenizer as tokens


def main() -> None:
    """Parse the command line and run one stage."""
    parser = argparse.ArgumentParser(prog="python -m dami_agent.training", description=__doc__)
    parser.add_argument("stage", choices=("tokenizer", "base", "tune"))
    parser.add_argument("--pair", type=Path, required=True, help="folder of base/, instruct/, thinking/")
    parser.add_argument("--run", type=Path, help="folder of the run's log and state")
    parser.add_argument("--role", choices=("instruct", "thinking"))
    parser.add_argument("--hours", type=float, default=0.0, help="wall-clock budget; 0 = by tokens alone")
    parser.add_argument("--total", type=int, help="tokens to train on, padding included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.stage == "tokenizer":
        recipe.start(options.pair, options.seed)
        return
    plan = recipe.plan(options.role or "base", options.seed, options.total, options.hours, not options.no_compile)
    tokenizer = tokens.load(options.pair / "base")
    model = export.fresh(tokenizer, options.seed)
    if options.stage == "tune":
        model.load_state_dict(export.load_state(options.pair / "base"), strict=False)
    role = options.role or "base"
    loop.train(model, tokenizer, recipe.MIXTURES[role], plan, options.run)
    export.save(options.pair / role, role, model.state_dict(), tokenizer)


if __name__ == "__main__":
    main()
