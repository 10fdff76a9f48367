"""Measure what a pair answers after its thought was closed at a cap: how clean, how often right.

Questions of all levels are asked at several λ, with ``max_reasoning_tokens`` from a few tokens to more than most
thoughts take. A reply counts where its thought was closed at the cap:

- **clean**: it ended by itself, is not blank, holds no marker of a thought, and is no second thought: one line without
  an equation in it, as all of the built-in pair's answers to these questions are.
- **right**: the answer is the question's.
- **right once reached**: right, of those whose cut thought had already come to the result.

Run it with ``python -m dami_agent.evaluation.forced_close``.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dami_agent.evaluation import runner
from dami_agent.evaluation.runner import Answer, Request
from dami_agent.evaluation.stats import mean, wilson
from dami_agent.session import Session, SessionKey, close_session, open_session
from dami_agent.tasks import Question, questions
from dami_agent.types import Intensity, Sampling

CAPS = (16, 25, 48, 64, 100, 200, 400)
LAMBDAS = (0.3, 0.5, 1.0)
QWEN3 = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now.\n"
)
WORDS: Mapping[str, str] = {
    "none": "",
    "a newline": "\n",
    "a short sentence": "\nI have to answer now.\n",
    "Qwen3's": QWEN3,
}
"""What is written before the close marker, by how the table calls it."""

MAX_TOKENS = 1024

_MARKER = re.compile(r"</?think>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Hold one reply whose thought was closed at its cap."""

    cap: int
    intensity: float
    words: str
    clean: bool
    right: bool
    reached: bool
    tokens: int


def reached(question: Question, thought: str) -> bool:
    """Return whether the thought says the result of its last step, or the result itself: `= 82` or `result is 82`."""
    if not question.work:
        return False
    last = question.work[-1]
    said = (f"{last.line}.", f"{last.line},", f"{last.detail}.", f"result is {question.answer}.")
    return any(each in thought for each in said)


def clean(answer: Answer) -> bool:
    """Return whether the content is an answer and nothing else."""
    text = answer.reply.content.strip()
    stopped = answer.generation is not None and answer.generation.finish_reason == "stop"
    return stopped and bool(text) and not _MARKER.search(text) and "\n" not in text and " = " not in text


def ask(session: Session, asked: Sequence[tuple[int, Question]], *, intensity: float, cap: int) -> Iterable[Answer]:
    """Ask all questions at one λ and cap; a random stream depends on both, on the seed and on the question.

    Args:
        session: the opened pair.
        asked: (seed, question) pairs.
        intensity: λ.
        cap: most tokens of the thought.
    """
    return runner.answers(session, (_request(seed, item, intensity, cap) for seed, item in asked))


def _request(seed: int, item: Question, intensity: float, cap: int) -> Request:
    sampling = Sampling(temperature=0.7, seed=runner.stream_seed(seed, item.prompt, intensity, cap))
    step = runner.question_step(item.prompt, sampling=sampling, max_tokens=MAX_TOKENS)
    limits = dataclasses.replace(step.limits, max_reasoning_tokens=cap)
    return Request(step=dataclasses.replace(step, limits=limits), intensity=Intensity(intensity))


def measure(
    session: Session,
    asked: Sequence[tuple[int, Question]],
    *,
    words: str,
    caps: Sequence[int],
    lambdas: Sequence[float],
) -> list[Closed]:
    """Return the replies that were closed at their cap, at every cap and λ.

    Args:
        session: opened with the closing words.
        asked: (seed, question) pairs.
        words: name of the closing words, for the rows.
        caps: most tokens of the thought.
        lambdas: λs.
    """
    found = []
    for cap in caps:
        for intensity in lambdas:
            for (_, item), answer in zip(asked, ask(session, asked, intensity=intensity, cap=cap), strict=True):
                if answer.generation is None or answer.generation.thought_closed_by != "cap":
                    continue
                found.append(
                    Closed(
                        cap=cap,
                        intensity=intensity,
                        words=words,
                        clean=clean(answer),
                        right=item.grade(answer.reply.content),
                        reached=reached(item, answer.reply.reasoning),
                        tokens=answer.generation.answer_tokens,
                    )
                )
    return found


def summary(rows: Sequence[Closed]) -> dict[str, Any]:
    """Return shares of clean and right replies with their 95 % intervals, and how long what follows the thought is."""
    there = [row for row in rows if row.reached]
    return {
        "closed": len(rows),
        "clean": _share([row.clean for row in rows]),
        "right": _share([row.right for row in rows]),
        "reached": len(there),
        "right_once_reached": _share([row.right for row in there]),
        "answer_tokens": round(mean([row.tokens for row in rows]), 1) if rows else None,
    }


def _share(values: Sequence[bool]) -> list[float] | None:
    if not values:
        return None
    low, high = wilson(sum(values), len(values))
    return [round(mean(values), 3), round(low, 3), round(high, 3)]


def report(rows: Sequence[Closed]) -> dict[str, Any]:
    """Sum up by closing words: over all, by cap, by λ."""
    found: dict[str, Any] = {}
    for words in dict.fromkeys(row.words for row in rows):
        own = [row for row in rows if row.words == words]
        found[words] = {
            "all": summary(own),
            "caps": {cap: summary([r for r in own if r.cap == cap]) for cap in sorted({r.cap for r in own})},
            "lambdas": {
                value: summary([r for r in own if r.intensity == value]) for value in sorted({r.intensity for r in own})
            },
        }
    return found


def _numbers(text: str) -> list[float]:
    return [float(each) for each in text.split(",")]


def main(
    count: Annotated[int, typer.Option(help="Questions of each seed, families and levels in turn.")] = 50,
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = 2,
    caps: Annotated[str, typer.Option(help="Caps of the thought, comma-separated.")] = ",".join(map(str, CAPS)),
    lambdas: Annotated[str, typer.Option(help="λs, comma-separated.")] = ",".join(map(str, LAMBDAS)),
    words: Annotated[list[str] | None, typer.Option(help="Closing words of your own, instead of those here.")] = None,
    instruct: Annotated[str | None, typer.Option()] = None,
    thinking: Annotated[str | None, typer.Option()] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write all of it as JSON.")] = None,
) -> None:
    """Print shares of clean and right answers after a forced close as JSON; shares with their 95 % intervals."""
    asked = [(seed, item) for seed in range(seeds) for item in questions("test", count, seed=seed)]
    rows: list[Closed] = []
    for name, text in ({each: each for each in words} if words else WORDS).items():
        key = SessionKey(
            instruct=instruct,
            thinking=thinking,
            weights_mode="merged",
            max_batch_size=runner.BATCH,
            closing_words=text,
        )
        rows += measure(
            open_session(key), asked, words=name, caps=[int(cap) for cap in _numbers(caps)], lambdas=_numbers(lambdas)
        )
        close_session(key)
    found = report(rows)
    if output is not None:
        kept = {"questions": len(asked), "report": found, "replies": [dataclasses.asdict(row) for row in rows]}
        output.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    typer.echo(json.dumps(found, indent=2))


if __name__ == "__main__":
    typer.run(main)
