"""Hold what the tests of :mod:`dami_agent.testing.engine_contract` share: claims, fixtures, requests, comparisons."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest

from dami_agent.errors import RunError
from dami_agent.types import Decision, Engine, Generation, Intensity, Limits, Prompt, Sampling

Request = tuple[Prompt, Decision]
Error = TypeVar("Error", bound=RunError)

GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, repetition_penalty=1.0, seed=0)
DRAWN = dataclasses.replace(GREEDY, temperature=1.0)
HOT = dataclasses.replace(GREEDY, temperature=1.5)
INTENSITIES = (0.0, 0.3, 0.7, 1.0)
LONG = 48  # tokens of a reply that is long enough to be interrupted
TRIES = 5  # a reply may be whole before it is interrupted
TEXTS = ("Add 5 to 7.", "What is the price of a lamp? Look it up, then", "17, 25, 42: the next number")


class EngineClaims:
    """Say what an engine claims and how it is opened; :class:`EngineContract` adds the tests.

    Attributes:
        supports_seeds: draws tokens at random, by ``Sampling.seed``.
        supports_thoughts: takes prompts that open a thought (``Prompt.in_thought``) and closes it at its cap.
        supports_stop_strings: honours ``Limits.stop``.
        supports_continuation: goes on from ``Prompt.reply_ids``; probes of an estimator need it.
        supports_logprobs: honours ``Sampling.logprobs``.
        supports_scoring: ``score`` is teacher forcing.
        supports_grammars: honours ``Prompt.constraint``; tools and structured output need it.
        tolerance: natural-log units by which equal log-probabilities may differ.
        patience: seconds that any request of the suite may take.
    """

    supports_seeds = True
    supports_thoughts = True
    supports_stop_strings = True
    supports_continuation = True
    supports_logprobs = True
    supports_scoring = True
    supports_grammars = True
    tolerance = 1e-3
    patience = 60.0

    # ---- what a subclass says -----------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def open_engine(cls) -> Callable[[], Engine]:
        """Return what opens a fresh engine; override it."""
        raise NotImplementedError("override the fixture open_engine: it returns a function that opens an engine")

    @pytest.fixture(scope="class")
    @classmethod
    def tokenizer(cls) -> Any:
        """Return the tokenizer of the engine's pair (transformers' interface); override it."""
        raise NotImplementedError("override the fixture tokenizer: it returns the tokenizer of the engine's pair")

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, open_engine: Callable[[], Engine]) -> Iterator[Engine]:
        """Open the engine that all tests but those of ``close`` share."""
        engine = open_engine()
        yield engine
        engine.close()

    @pytest.fixture(scope="class")
    @classmethod
    def prompts(cls, tokenizer: Any) -> Sequence[Prompt]:
        """Return a few prompts whose replies are not trivial; override it where these texts do not do."""
        return [prompt_of(tokenizer, text) for text in TEXTS]

    def _need(self, what: str) -> None:
        if not getattr(self, f"supports_{what}"):
            pytest.skip(f"supports_{what} is False: this engine does not claim it")

    def _run(self, engine: Engine, request: Request) -> Generation:
        return engine.submit(*request).result(self.patience)

    def _logged(self, sampling: Sampling) -> Sampling:
        return dataclasses.replace(sampling, logprobs=2) if self.supports_logprobs else sampling

    def _both_templates(self, prompt: Prompt) -> list[Prompt]:
        return [prompt, thinking(prompt)] if self.supports_thoughts else [prompt]

    def _mixed_requests(self, prompts: Sequence[Prompt]) -> list[Request]:
        """Return requests of all λ, greedy and sampled, of different lengths, in an order that mixes them."""
        requests = []
        for number, at in enumerate(INTENSITIES * 3):
            prompt = self._both_templates(prompts[number % len(prompts)])[-(number % 2)]
            sampling = GREEDY if number % 3 == 0 else seeded(DRAWN, number)
            limits = {"max_tokens": 6 + number, "max_reasoning_tokens": 4}
            requests.append((prompt, decide(at, sampling=self._logged(sampling), **limits)))
        return requests

    def _long_request(self, engine: Engine, prompts: Sequence[Prompt]) -> Request:
        """Return a request without a cap whose reply has at least ``LONG`` tokens."""
        for seed in range(20):
            prompt = prompts[seed % len(prompts)]
            decision = decide(1.0, sampling=seeded(DRAWN, seed), max_tokens=LONG)
            if self._run(engine, (prompt, decision)).output_tokens == LONG:
                return prompt, dataclasses.replace(decision, limits=Limits())
        return pytest.fail(f"no reply has {LONG} tokens; give prompts whose replies are longer")

    def _stop_string_of(self, engine: Engine, tokenizer: Any, prompts: Sequence[Prompt]) -> tuple[Request, str, str]:
        """Return a request, the text of its reply, and a short piece from the middle of that text."""
        for seed in range(20):
            request = prompts[seed % len(prompts)], decide(0.7, sampling=seeded(DRAWN, seed), max_tokens=30)
            text = tokenizer.decode(list(self._run(engine, request).token_ids))
            for at in range(len(text) // 3, len(text) - 3):
                piece = text[at : at + 2]
                if piece.strip() == piece and piece.isprintable() and "\ufffd" not in piece and text.find(piece) == at:
                    return request, text, piece
        return pytest.fail("no reply has a text to stop at; give prompts whose replies are longer")

    def _assert_equal(self, one: Generation, other: Generation, what: str, after: int = 0) -> None:
        """Check that two generations have equal tokens, or part where two tokens are as good as equal."""
        for place, (a, b) in enumerate(zip(one.events, other.events, strict=False)):
            near = a.logprob is None or b.logprob is None
            near = near or abs(a.logprob.logprob - b.logprob.logprob) <= self.tolerance  # type: ignore[union-attr]
            if a.token_id != b.token_id:
                tie = near and a.logprob is not None and one.sampling.temperature == 0.0
                assert tie, f"{what}: token {place} is {b.token_id} in place of {a.token_id}, at λ={other.intensity}"
                return
            assert a.part == b.part, f"{what}: token {place} is of part {b.part} in place of {a.part}"
            assert place < after or near, f"{what}: the log-probs of token {place} differ, at λ={other.intensity}"
        assert (one.output_tokens, one.finish_reason) == (other.output_tokens, other.finish_reason), what


def decide(intensity: float, *, sampling: Sampling = GREEDY, **limits: Any) -> Decision:
    """Return a decision at λ = ``intensity`` with these fields of :class:`~dami_agent.types.Limits`."""
    at = Intensity(intensity)
    return Decision(intensity=at, template="instruct", reason="contract", sampling=sampling, limits=Limits(**limits))


def seeded(sampling: Sampling, seed: int) -> Sampling:
    """Return ``sampling`` with another seed."""
    return dataclasses.replace(sampling, seed=seed)


def prompt_of(tokenizer: Any, text: str) -> Prompt:
    """Return a prompt of this text, without a chat template."""
    return Prompt(token_ids=tuple(tokenizer.encode(text, add_special_tokens=False)), template="instruct")


def thinking(prompt: Prompt) -> Prompt:
    """Return the prompt as if its template had opened a thought."""
    return dataclasses.replace(prompt, template="thinking", in_thought=True)


def raised(kind: type[Error], call: Callable[..., object], *arguments: Any) -> Error | None:
    """Call, and return the error of this kind that it raises; None where it returns."""
    try:
        call(*arguments)
    except kind as error:
        return error
    return None
