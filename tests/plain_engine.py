"""A third engine, as somebody else would write it: one forward pass per token over all tokens so far, no cache.

It decodes when it is read, in the reader's thread; a lock keeps the weights for one forward pass at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import Cancelled, DeadlineExceeded, EngineClosed, InvalidRequest, RunError
from dami_agent.request_checks import check_fits, check_request, check_tokens
from dami_agent.types import Decision, EngineInfo, Generation, Intensity, Prompt, TokenEvent, TokenLogprob
from dami_agent.weights import load_weights


class PlainEngine:
    def __init__(self, pair: CheckpointPair, context_length: int) -> None:
        self.tokenizer = pair.instruct.tokenizer()
        self.info = EngineInfo(
            model=pair.name,
            fingerprint=pair.fingerprint,
            context_length=context_length,
            vocab_size=len(self.tokenizer),
            weights_mode="merged",
            device="cpu",
            dtype="float32",
        )
        self.eos, self.marker = set(pair.eos_token_ids), self.tokenizer.convert_tokens_to_ids("</think>")
        self.weights = load_weights(pair.instruct.path, pair.thinking.path, mode="merged", device="cpu")
        self.lock, self.closed = threading.Lock(), False

    @classmethod
    def open(cls, pair: CheckpointPair, *, context_length: int | None, **_: Any) -> PlainEngine:
        return cls(pair, context_length or 4096)

    def submit(self, prompt: Prompt, decision: Decision) -> PlainJob:
        self.refuse_if_closed()
        most = check_request(prompt, decision.limits, self.info)
        if prompt.constraint is not None:
            raise InvalidRequest("this engine knows no grammars", hint="bind no tools")
        return PlainJob(self, prompt, decision, most)

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        return self.submit(prompt, decision).result()

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        self.refuse_if_closed()
        context = (*prompt.token_ids, *prompt.reply_ids)
        check_tokens("completion", completion, self.info, empty=True)
        check_fits(len(context), len(completion), self.info)
        rows = self.logprobs((*context, *completion), intensity)[len(context) - 1 : -1] if completion else []
        return tuple(float(row[token]) for row, token in zip(rows, completion, strict=True))

    def close(self) -> None:
        self.closed = True

    def logprobs(self, ids: Sequence[int], intensity: float) -> torch.Tensor:
        """Return the log-softmax after every token: float32 [tokens, vocabulary]."""
        with self.lock, self.weights.at([intensity]) as model, torch.no_grad():
            return model(torch.tensor([ids])).logits[0, :, : self.info.vocab_size].float().log_softmax(-1)

    def refuse_if_closed(self) -> None:
        if self.closed:
            raise EngineClosed("the plain engine was closed")


class PlainJob:
    def __init__(self, engine: PlainEngine, prompt: Prompt, decision: Decision, most: int) -> None:
        self.engine, self.prompt, self.decision, self.most = engine, prompt, decision, most
        limits, given = decision.limits, decision.sampling
        seed = given.seed if given.seed is not None else int(torch.seed() % 2**62)
        self.sampling = replace(given, seed=seed, temperature=1.0 if given.temperature is None else given.temperature)
        self.random = torch.Generator().manual_seed(seed)
        self.cap = max(0, most - limits.answer_reserve - 1) if limits.answer_reserve else most
        if limits.max_reasoning_tokens is not None:
            self.cap = min(self.cap, limits.max_reasoning_tokens)
        self.ends = None if limits.timeout is None else time.monotonic() + limits.timeout
        self.lock, self.cancelled, self.error = threading.RLock(), False, None
        self.whole = Generation(
            events=(), finish_reason="length", intensity=Intensity(decision.intensity), sampling=self.sampling,
            prompt_tokens=len(prompt.token_ids), thought_closed_by=None,
        )  # fmt: skip
        self.tokens, self.over = self._decode(), False

    def __iter__(self) -> Iterator[TokenEvent]:
        at = 0
        while self._reach(at):
            yield self.whole.events[at]
            at += 1
        if self.error is not None:
            raise self.error

    def result(self, timeout: float | None = None) -> Generation:
        for _ in self:
            pass
        return self.whole

    def cancel(self) -> None:
        self.cancelled = True

    def _reach(self, at: int) -> bool:
        """Decode up to token ``at``; False where the reply ended before."""
        with self.lock:
            while len(self.whole.events) <= at and not self.over:
                self._step()
            return len(self.whole.events) > at

    def _step(self) -> None:
        try:
            self._check()
            event = next(self.tokens)
            self.whole = replace(self.whole, events=(*self.whole.events, event))
        except StopIteration:
            self.over = True
        except RunError as error:
            error.generation, self.error, self.over = self.whole, error, True

    def _check(self) -> None:
        self.engine.refuse_if_closed()
        if self.cancelled:
            raise Cancelled("the request was cancelled")
        if self.ends is not None and time.monotonic() >= self.ends:
            raise DeadlineExceeded("the timeout passed")

    def _decode(self) -> Iterator[TokenEvent]:
        thinking, thought, answer, ids = self.prompt.in_thought, 0, [], list(self.prompt.token_ids)
        given = self.prompt.reply_ids
        for place in range(self.most):
            logprobs = self.engine.logprobs(ids, self.decision.intensity)[-1]
            drawn = self._draw(logprobs, thinking)
            token = given[place] if place < len(given) else drawn
            if thinking and place >= len(given) and (thought >= self.cap or token in self.engine.eos):
                token = self.engine.marker
                self.whole = replace(self.whole, thought_closed_by="cap" if thought >= self.cap else "eos")
            elif thinking and token == self.engine.marker:
                self.whole = replace(self.whole, thought_closed_by="cap" if thought >= self.cap else "model")
            elif not thinking and token in self.engine.eos:
                self.whole = replace(self.whole, finish_reason="stop")
                return
            part = "answer" if not thinking else "control" if token == self.engine.marker else "reasoning"
            thinking, thought = part == "reasoning", thought + (part == "reasoning")
            ids.append(token)
            answer += [token] if part == "answer" else []
            text = self.engine.tokenizer.decode(answer)
            stop = next((each for each in self.decision.limits.stop if each in text), None)
            if stop is not None:
                self.whole = replace(self.whole, finish_reason="stop", stop_string=stop)
            yield TokenEvent(token_id=token, part=part, logprob=self._logprob(token, logprobs))
            if stop is not None:
                return

    def _draw(self, logprobs: torch.Tensor, thinking: bool) -> int:
        if not thinking:  # no marker of a thought in an answer
            logprobs = logprobs.clone()
            logprobs[self.engine.marker] = -torch.inf
        if self.sampling.temperature == 0:
            return int(logprobs.argmax())
        return int(torch.multinomial((logprobs / self.sampling.temperature).softmax(-1), 1, generator=self.random))

    def _logprob(self, token: int, logprobs: torch.Tensor) -> TokenLogprob | None:
        if self.sampling.logprobs is None:
            return None
        best: Any = logprobs.topk(self.sampling.logprobs)
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return TokenLogprob(token_id=token, logprob=float(logprobs[token]), top=top)
