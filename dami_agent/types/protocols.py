"""Declare the protocols that engines, what opens them, their jobs, and estimators implement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from dami_agent.types.generation import Generation, Prompt, TokenEvent
from dami_agent.types.intensity import Intensity, WeightsMode
from dami_agent.types.record import Decision, Estimate


@runtime_checkable
class Job(Protocol):
    """Represents a submitted request: iterate for tokens as they come, or wait for ``result``; both from any thread."""

    def __iter__(self) -> Iterator[TokenEvent]:
        """Yield every output token in order, from the first, as it is decoded; raises what ``result`` would."""
        ...

    def result(self, timeout: float | None = None) -> Generation:
        """Wait for the end.

        Raises:
            Cancelled, DeadlineExceeded, EngineClosed: with ``.generation`` holding what had been decoded by then.
        """
        ...

    def cancel(self) -> None:
        """Stop at the next token; idempotent, never blocks."""
        ...


BUILTIN = "dami-builtin"
"""Name of the pair that ships with this package, in ``EngineInfo.model`` and on record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Says what an engine runs on: for records, cache keys and people.

    Attributes:
        masks_markers: no marker of a thought is ever drawn in an answer. Of an engine that does not say so, an answer
            is shown only when it is whole: a marker in it would make a thought of what was shown.
        layers: of the model, the embedding not counted; 0: the engine does not say.
        module_intensities: each kind of module, in each layer, can be run at a λ of its own. An engine that does not
            say so is never asked to: it would take such a λ for a number.
    """

    model: str
    fingerprint: str
    context_length: int
    vocab_size: int
    weights_mode: WeightsMode
    device: str
    dtype: str
    reasons: Mapping[str, str] = field(default_factory=dict)
    masks_markers: bool = False
    layers: int = 0
    module_intensities: bool = False


@runtime_checkable
class Engine(Protocol):
    """Takes token ids and returns token ids, at any λ; knows no message. Safe to use from many threads."""

    @property
    def info(self) -> EngineInfo:
        """Return what the engine runs on."""
        ...

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        """Queue a request.

        Raises:
            ContextOverflow, InvalidSchema, InvalidRequest: bad input, refused before anything is queued.
            EngineBusy, EngineClosed: this engine cannot take it now, or any more.
        """
        ...

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        """Submit a request and wait for its result."""
        ...

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        """Compute the natural-log probability of each completion token given all before it, by teacher forcing at λ."""
        ...

    def close(self) -> None:
        """Fail what is queued or running with ``EngineClosed`` and free the memory; idempotent."""
        ...


@runtime_checkable
class StateReader(Protocol):
    """Engine that also tells what its model holds of a prompt, layer by layer; an estimator with a head asks for it."""

    def hidden_states(
        self, prompt: Prompt, intensity: Intensity, layers: Sequence[int]
    ) -> tuple[tuple[float, ...], ...]:
        """Read a prompt at λ and return its hidden states, pooled, of each of the ``layers``.

        Args:
            prompt: its token ids are read, ``reply_ids`` left out.
            intensity: λ to read it at.
            layers: as transformers numbers ``hidden_states``: 0 is the embedding, the last one is after the final norm.

        Returns:
            One row for each layer: the state of the last token, followed by the mean over all tokens.
        """
        ...


class EngineFactory(Protocol):
    """Opens engines by name: what an entry point of the group ``dami_agent.engines`` names, usually the engine's class.

    ``dami_agent.testing.engine_contract`` holds what is expected of the engine that it opens.
    """

    def open(
        self, pair: Any, *, device: str, dtype: str, mode: str, context_length: int | None, **options: Any
    ) -> Engine:
        """Open an engine for a pair; cheap, for the weights are best loaded by the first request.

        Sessions call it under a lock, in the thread of whoever needs the pair first, once per process and set of
        settings; the engine that it returns is then used from many threads. A forked child calls it again.

        Args:
            pair: a verified :class:`dami_agent.checkpoints.CheckpointPair`: folders, tokenizer, generation configs.
            device: a torch device, or ``auto``.
            dtype: a torch dtype's name, or ``auto``.
            mode: how θ(λ) is held: ``merged``, ``mixed`` or ``auto``.
            context_length: tokens of prompt and reply together at most; None: the pair's own.
            options: ``max_batch_size`` (int, requests decoded together at most) and ``closing_words`` (str, written
                before the close marker of a thought that is cut short), each only where the user has set it. An engine
                that takes none of them leaves ``**options`` out: the setting is then refused with its name.

        Raises:
            UsageError: an explicit setting cannot be honoured.
            CheckpointError: this engine cannot run the pair.
        """
        ...


@runtime_checkable
class Estimator(Protocol):
    """Estimates λ(q) for a prompt; may probe the engine."""

    @property
    def name(self) -> str:
        """Return the name that the ledger records."""
        ...

    def estimate(self, prompt: Prompt, decision: Decision, engine: Engine) -> Estimate:
        """Estimate λ for ``prompt``.

        Args:
            prompt: rendered with Instruct's template.
            decision: sampling and limits at λ=0, for a probe.
            engine: to probe or score with.

        Raises:
            RunError: the probe failed; the call fails with the same error.
        """
        ...
