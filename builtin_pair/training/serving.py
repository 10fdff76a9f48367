"""Serve checkpoints in training with the product's own engine, so that they are measured as they will be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer

from builtin_pair.training import export
from builtin_pair.training.export import SHAPE, State
from builtin_pair.training.render import TrainingDialogue, prompt
from dami_agent.evaluation.runner import BATCH, WINDOW, stream_seed
from dami_agent.session import Session, SessionKey, close_session, open_session
from dami_agent.types import Decision, Intensity, Job, Limits, Message, Prompt, Sampling, Step

TOP_K = 20
"""Of recorded thoughts, as in the generation defaults of both checkpoints."""


@contextmanager
def open_folders(instruct: Path, thinking: Path, device: str = "auto") -> Iterator[Session]:
    """Open two checkpoint folders as a pair with merged weights; closed at the end.

    Raises:
        CheckpointError: they do not make a pair.
    """
    key = SessionKey(
        instruct=str(instruct), thinking=str(thinking), weights_mode="merged", max_batch_size=BATCH, device=device
    )
    try:
        yield open_session(key)
    finally:
        close_session(key)


@contextmanager
def open_states(
    instruct: State,
    thinking: State,
    tokenizer: Tokenizer,
    *,
    shape: Mapping[str, Any] = SHAPE,
    device: str = "auto",
) -> Iterator[Session]:
    """Open two states of weights as a pair, rounded to bf16 as they would ship, from a temporary folder.

    Args:
        instruct: parameter name -> tensor; λ=0.
        thinking: the same names and shapes; λ=1. It may be the same state.
        tokenizer: the pair's.
        shape: architecture of both, as in ``export.SHAPE``.
        device: a torch device, or ``auto``.

    Raises:
        CheckpointError: they do not make a pair.
    """
    with TemporaryDirectory(prefix="dami-pair-") as folder:
        for role, state in (("instruct", instruct), ("thinking", thinking)):
            export.save(Path(folder) / role, role, dict(state), tokenizer, shape)
        with open_folders(Path(folder) / "instruct", Path(folder) / "thinking", device) as session:
            yield session


def think(
    session: Session,
    tokenizer: Tokenizer,
    dialogues: Sequence[TrainingDialogue],
    *,
    temperature: float,
    limit: int,
    seed: int,
) -> list[str]:
    """Continue every dialogue under Thinking's template at λ=1, and return the thoughts, unfinished ones too.

    Args:
        session: the pair.
        tokenizer: the pair's, for the prompts, which are rendered as documents are.
        dialogues: end before the turn to be written; all of Thinking's template.
        temperature: of the sampling; 0 is greedy.
        limit: output tokens at most.
        seed: with its place, of each dialogue's random stream.
    """
    thoughts: list[str] = []
    for first in range(0, len(dialogues), WINDOW):  # the engine's queue is bounded
        jobs: list[tuple[Prompt, Job]] = []
        for place, dialogue in enumerate(dialogues[first : first + WINDOW], first):
            ids = tokenizer.encode(prompt(dialogue), add_special_tokens=False).ids
            asked = Prompt(token_ids=tuple(ids), template="thinking", in_thought=True)
            sampling = Sampling(temperature=temperature, top_k=TOP_K, top_p=1.0, seed=stream_seed("slips", seed, place))
            decision = Decision(
                intensity=Intensity(1),
                template="thinking",
                reason="training",
                sampling=sampling,
                limits=Limits(max_tokens=limit),
            )
            jobs.append((asked, session.engine.submit(asked, decision)))
        step = Step(messages=(Message(role="user", content=""),))
        thoughts += [session.dialogue.parse(job.result(), asked, step).reasoning.strip() for asked, job in jobs]
    return thoughts
