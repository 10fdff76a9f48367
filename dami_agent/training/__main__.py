"""`python -m dami_agent.training STAGE ...`: build the tokenizer, pretrain, fine-tune, evaluate.

tokenizer --pair DIR            train the tokenizer and write a randomly initialised pair
base      --pair DIR --run DIR  pretrain (resumes), write DIR/base
more      --pair DIR --run DIR  go on from DIR/base, mostly arithmetic, and replace it
tune      --pair DIR --run DIR --role instruct|thinking
evaluate  --pair DIR            accuracy and tokens along the path, tool calls, agent tasks
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from dami_agent.training import export, loop, measure, recipe
from dami_agent.training import tokenizer as tokens


def main() -> None:
    """Parse the command line and run one stage."""
    parser = argparse.ArgumentParser(prog="python -m dami_agent.training", description=__doc__)
    parser.add_argument("stage", choices=("tokenizer", "base", "more", "tune", "evaluate"))
    parser.add_argument("--pair", type=Path, required=True, help="folder of base/, instruct/, thinking/")
    parser.add_argument("--run", type=Path, help="folder of the run's log and state")
    parser.add_argument("--role", choices=("instruct", "thinking"))
    parser.add_argument("--hours", type=float, default=0.0, help="wall-clock budget; 0 = by tokens alone")
    parser.add_argument("--total", type=int, help="tokens to train on, padding included")
    parser.add_argument("--count", type=int, default=200, help="questions or tasks per measurement")
    parser.add_argument("--split", choices=("calibration", "test"), default="calibration")
    parser.add_argument("--parts", default=",".join(measure.PARTS), help="comma-separated; evaluate only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.stage == "tokenizer":
        recipe.start(options.pair, options.seed)
        return
    if options.stage == "evaluate":
        measure.show(options.pair, options.parts.split(","), options.count, options.split, options.seed)
        return
    role = options.role or options.stage
    plan = recipe.plan(role, options.seed, options.total, options.hours, not options.no_compile)
    tokenizer = tokens.load(options.pair / "base")
    model = export.fresh(tokenizer, options.seed)
    if options.stage != "base":
        model.load_state_dict(export.load_state(options.pair / "base"), strict=False)
    loop.train(model, tokenizer, recipe.MIXTURES[role], plan, options.run)
    written = options.role or "base"
    export.save(options.pair / written, written, model.state_dict(), tokenizer)


if __name__ == "__main__":
    main()
