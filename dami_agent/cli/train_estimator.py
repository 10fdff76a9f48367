"""Run ``dami train-estimator``: train the heads that a pair's estimators go by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dami_agent.cli.options import (
    BatchOption,
    InstructOption,
    MaxTokensOption,
    TemperatureOption,
    ThinkingOption,
    WorkersOption,
)
from dami_agent.cli.output import check_writable, print_json, stdout
from dami_agent.cli.progress import progress_bar
from dami_agent.cli.sweep import numbers
from dami_agent.errors import UsageError


def train_estimator(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write the heads (default: your data folder, found by the pair)."),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(help="Your own questions, one JSON object a line: question, answer, grader (default: synthetic)."),
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Synthetic questions to learn from (default: 700).", min=100)
    ] = None,
    tasks: Annotated[
        int | None, typer.Option(help="Synthetic agent tasks to learn from, every step of each (default: 200).", min=0)
    ] = None,
    test: Annotated[
        int | None,
        typer.Option(
            help="Questions to judge by, not learned from; 0 for none (default: 300, or a fifth of your own).",
            min=0,
        ),
    ] = None,
    tries: Annotated[int, typer.Option(help="Replies to each question at each λ.", min=1)] = 1,
    lambdas: Annotated[str, typer.Option(help="Comma-separated λs; 0 and 1 are always sampled.")] = "0,.3,.5,.8,1",
    temperature: TemperatureOption = 0.7,
    max_tokens: MaxTokensOption = 2048,
    samples: Annotated[
        Path | None,
        typer.Option(help="Keep the samples to learn from in this file, and take them from it if it exists."),
    ] = None,
    instruct: InstructOption = None,
    thinking: ThinkingOption = None,
    batch: BatchOption = None,
    workers: WorkersOption = 1,
) -> None:
    """Train heads that tell before anything is decoded which λ pays, on the pair's own replies."""
    values = numbers(lambdas)
    from dami_agent.estimators.head_files import heads_path
    from dami_agent.estimators.preference import MAX_LOSS
    from dami_agent.evaluation import runner
    from dami_agent.evaluation import train_estimator as training
    from dami_agent.evaluation.asked import SamplePlan
    from dami_agent.evaluation.call_batches import PairSource
    from dami_agent.evaluation.own_questions import read_questions

    if questions is not None:
        if count is not None or tasks is not None:
            raise UsageError("--count and --tasks are of synthetic prompts, and --questions brings your own")
        learned, tested = training.own_sets(read_questions(questions), test)
    else:
        judged, steps = 300 if test is None else test, 200 if tasks is None else tasks
        learned, tested = training.builtin_sets(count or 700, judged, steps, judged // 5 if steps else 0)
    for path in (output, samples):
        if path is not None:
            check_writable(path)
    source = PairSource(instruct=instruct, thinking=thinking, batch=batch or runner.BATCH)
    plan = SamplePlan(lambdas=values, tries=tries, temperature=temperature, max_tokens=max_tokens)
    with progress_bar() as tell:
        heads, found = training.train(source, plan, learned, tested, kept=samples, workers=workers, tell=tell)
    path = output or heads_path(heads.fingerprint)
    heads.save(path)
    cards = [
        {"reads": head.reads, "kind": head.kind, "pays": head.pays(), "price": head.point_within(MAX_LOSS).price}
        | dict(head.card)
        | {"prices": [dataclasses.asdict(point) for point in head.prices]}
        for head in heads
    ]
    if as_json:
        print_json({"heads": str(path), "fingerprint": heads.fingerprint, "cards": cards, "test": found})
        return
    for card in cards:
        _show(card, f"{card['prompts']} prompts it learned from, each judged without it")
    for card in found:
        _show(card, f"{card['prompts']} prompts it never saw")
    paying = [card for card in cards if card["pays"]]
    stdout().print(f"kept in {path}", soft_wrap=True)
    if not paying:
        stdout().print("none of them is better than fixed λs beyond doubt: λ is estimated without them")
    elif output is None:
        stdout().print("from now on λ is estimated by those that pay, where no estimator is named")
    else:
        stdout().print(
            "PreferenceEstimator(heads=FILE) reads it; as heads.safetensors beside the pair, every model does"
        )


_READS = {
    "states": "preference, on hidden states",
    "probe": "confidence, on probes",
    "joint": "joint, on both",
    "entropy": "entropy, on the probes' entropy",
}
_KINDS = {"plain": "prompts without tools", "tools": "prompts with tools"}


def _show(card: Mapping[str, Any], of: str) -> None:
    from rich.table import Table

    console = stdout()
    title = f"{_READS[card['reads']]}, for {_KINDS[card['kind']]}: {of}"
    table = Table(box=None, pad_edge=False, header_style="dim", title=title, title_justify="left")
    for name in ("", "accuracy", "tokens", "against Thinking", "against fixed λs at equal tokens"):
        table.add_column(name, justify="left" if not name else "right")
    for row in card["fixed"]:
        table.add_row(f"λ={row['lambda']:g}", f"{row['accuracy']:.3f}", f"{row['tokens']:.1f}", "", "")
    for point in card["prices"]:
        table.add_row(
            f"price {point['price']:g}{' (default)' if point['price'] == card['price'] else ''}",
            f"{point['accuracy']:.3f}",
            f"{point['tokens']:.1f}",
            f"{100 * point['gain']:+.1f} ± {100 * point['gain_ci']:.1f}",
            f"{100 * point['static_gain']:+.1f} ± {100 * point['static_gain_ci']:.1f}",
        )
    oracle = card["oracle"]
    table.add_row("shortest right", f"{oracle['accuracy']:.3f}", f"{oracle['tokens']:.1f}", "", "")
    console.print(table)
    auc = ", ".join("–" if value is None else f"{value:.2f}" for value in card["auc"])
    if "pays" in card:
        console.print(f"pays: {'yes' if card['pays'] else 'no'}")
    console.print(f"tells right from wrong replies, by λ: AUC {auc}; calibration error {card['calibration_error']:.3f}")
    console.print()
