"""`python -m builtin_pair train STAGE ...`: build the tokenizer, pretrain, fine-tune, evaluate.

tokenizer      --pair DIR                   train the tokenizer and write a randomly initialised pair
base           --pair DIR --run DIR         pretrain at a constant learning rate, write DIR/base; resumes
self-mistakes  --pair DIR --self-mistakes FILE [--role thinking]
                                            record a checkpoint's own mistakes on training questions
finish         --pair DIR --run DIR --self-mistakes FILE
                                            go on from DIR/base with a falling learning rate, and replace it
tune           --pair DIR --run DIR --role instruct|thinking [--self-mistakes FILE]
                                            fine-tune from DIR/base
evaluate       --pair DIR                   accuracy and tokens along the path, tool calls, agent tasks
ablate         --pair DIR --run DIR --what replay,lr [--self-mistakes FILE]
                                            tune from DIR/base with one thing changed at a time; --what style,size
                                            pretrains small pairs from nothing: --total is of the pretraining, of DIR
                                            only the tokenizer is read
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from builtin_pair.training import ablate, evaluate, export, parallel, recipe, self_mistakes, stages
from builtin_pair.training import tokenizer as tokens


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m builtin_pair train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("tokenizer", "base", "self-mistakes", "finish", "tune", "evaluate", "ablate"))
    parser.add_argument("--pair", type=Path, required=True, help="folder of base/, instruct/, thinking/")
    parser.add_argument("--run", type=Path, help="folder of the run's log and state")
    parser.add_argument("--role", choices=("base", "instruct", "thinking"), help="what to tune, or to record (base)")
    parser.add_argument("--self-mistakes", type=Path, help="file of recorded mistakes")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the recorded thoughts; self-mistakes only")
    parser.add_argument("--hours", type=float, default=0.0, help="wall-clock budget; 0 = by tokens alone")
    parser.add_argument("--total", type=int, help="tokens to train on, padding included")
    parser.add_argument("--what", help=f"comma-separated, of {', '.join(ablate.WHAT)}; ablate only")
    parser.add_argument("--lr", type=float, help="learning rate of AdamW")
    parser.add_argument("--muon-lr", type=float, help="learning rate of Muon; base and finish")
    parser.add_argument("--replay", type=float, default=recipe.REPLAY, help="share of base-style documents; tune only")
    parser.add_argument("--count", type=int, default=200, help="questions or tasks per measurement")
    parser.add_argument("--split", choices=("calibration", "test"), default="calibration")
    parser.add_argument("--parts", default=",".join(evaluate.PARTS), help="comma-separated; evaluate only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of a single process")
    parser.add_argument(
        "--processes", type=int, default=1, help="data-parallel or, in ablate, of variants; one thread each"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that draw documents ahead, for a GPU; base, finish and tune"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: a GPU when there is one and one process; ablate runs on the CPU",
    )
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and (options.processes > 1 or not torch.cuda.is_available()):
        parser.error("--device cuda needs a GPU that torch can use, and one process")
    if options.stage == "tune" and options.role not in ("instruct", "thinking"):
        parser.error("tune needs --role instruct or --role thinking")
    if options.stage in ("base", "finish", "tune") and not options.run:
        parser.error(f"{options.stage} needs --run, the folder of its log and state")
    if options.stage == "self-mistakes" and not options.self_mistakes:
        parser.error("self-mistakes needs --self-mistakes, the file to write")
    if options.stage == "ablate" and not (options.run and set((options.what or "").split(",")) <= set(ablate.WHAT)):
        parser.error(f"ablate needs --run and --what, of {', '.join(ablate.WHAT)}")
    return options


def _record(options: argparse.Namespace) -> None:
    folder = options.pair / (options.role or "base")
    found = self_mistakes.collect(
        export.load_state(folder),
        tokens.load(folder),
        count=options.count,
        temperature=options.temperature,
        seed=options.seed,
        device=options.device,
    )
    self_mistakes.write(options.self_mistakes, found)
    by_family = Counter(mistake.family for mistake in found)
    said = ", ".join(f"{family} {by_family[family]}" for family in self_mistakes.FAMILIES)
    print(f"{len(found)} self-made mistakes in {options.count} thoughts: {said}")


def _ablate(options: argparse.Namespace) -> None:
    job = partial(
        ablate.AblationJob,
        pair=options.pair,
        run=options.run,
        total=options.total,
        count=options.count,
        seed=options.seed,
        self_mistakes=options.self_mistakes,
        compile=not options.no_compile,
    )
    ablate.show(options.what.split(","), options.processes, job)


def main(arguments: Sequence[str]) -> None:
    """Parse ``arguments``, as they stand after ``train`` on the command line, and run one stage."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    if options.stage == "tokenizer":
        recipe.start(options.pair, options.seed)
    elif options.stage == "evaluate":
        evaluate.show(
            options.pair, options.parts.split(","), options.count, options.split, options.seed, options.device
        )
    elif options.stage == "self-mistakes":
        _record(options)
    elif options.stage == "ablate":
        _ablate(options)
    else:
        stage: recipe.Stage = options.role if options.stage == "tune" else options.stage
        parallel.launch(options.processes, options.run / "rendezvous", partial(stages.train, options, stage))
