"""Check an engine against what the pipeline, budgets and ledger expect of every engine: a pytest suite to subclass.

::

    from dami_agent.testing.engine_contract import EngineContract

    class TestMyEngine(EngineContract):
        supports_grammars = False          # its tests are skipped, with a reason

        @pytest.fixture(scope="class")
        @classmethod
        def open_engine(cls):
            return lambda: MyEngine.open(pair, device="cpu", dtype="float32", mode="auto", context_length=256)

        @pytest.fixture(scope="class")
        @classmethod
        def tokenizer(cls):
            return pair.instruct.tokenizer()

Run it with a small pair in float32 and a context of a few hundred tokens. Tokens are compared exactly, except that
greedy outputs may part where two tokens are as good as equal (``tolerance``).
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest

from dami_agent.errors import Cancelled, ContextOverflow, DeadlineExceeded, EngineClosed, InvalidRequest, InvalidSchema
from dami_agent.testing.engine_claims import (
    DRAWN,
    GREEDY,
    HOT,
    INTENSITIES,
    TRIES,
    EngineClaims,
    decide,
    raised,
    seeded,
    thinking,
)
from dami_agent.types import Constraint, Engine, Intensity, Job, Prompt, Sampling, TokenEvent

__all__ = ["EngineContract"]

_TRIP = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


class EngineContract(EngineClaims):
    """Test one engine; a subclass overrides the fixtures ``open_engine`` and ``tokenizer``, and the claims.

    See :class:`~dami_agent.testing.engine_claims.EngineClaims` for the flags.
    """

    # ---- λ --------------------------------------------------------------------------------------------------------

    def test_it_says_what_it_is(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check protocols, ``info`` and what a generation says of itself."""
        assert isinstance(engine, Engine), "it has info, submit, generate, score and close"
        info = engine.info
        assert info.context_length > 0
        assert info.model
        assert info.fingerprint, "the fingerprint is part of every cache key"
        job = engine.submit(prompts[0], decide(0.3, max_tokens=4))
        assert isinstance(job, Job), "a job has result, cancel and __iter__"
        out = job.result(self.patience)
        assert out.intensity == Intensity(0.3), "intensity is the λ the tokens were decoded with"
        assert out.prompt_tokens == len(prompts[0].token_ids), "prompt_tokens counts the prompt"
        drawn = engine.generate(prompts[0], decide(0.3, sampling=Sampling(), max_tokens=2))
        assert drawn.sampling.seed is not None, "a seed that was drawn is recorded"

    def test_intensity_changes_what_is_decoded(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that λ has an effect: all tests of isolation would pass without."""
        at = [[self._run(engine, (p, decide(at, max_tokens=12))).token_ids for p in prompts] for at in (0.0, 1.0)]
        assert at[0] != at[1], "λ = 0 and λ = 1 decode the same tokens for every prompt"

    def test_concurrent_requests_equal_each_alone(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that no request's λ, seed or sampling leaks into another's, however they are run together."""
        requests = self._mixed_requests(prompts)
        alone = [self._run(engine, request) for request in requests]
        with ThreadPoolExecutor(len(requests)) as pool:
            together = list(pool.map(lambda request: self._run(engine, request), requests))
        for request, one, other in zip(requests, alone, together, strict=True):
            assert other.intensity == request[1].intensity, "a request was decoded at another's λ"
            self._assert_equal(one, other, "a request among others differs from the same request alone")

    def test_equal_seeds_draw_equal_tokens(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that a request's random stream is its own seed's."""

        def drawn(seed: int) -> tuple[int, ...]:
            return self._run(engine, (prompts[0], decide(0.3, sampling=seeded(HOT, seed), max_tokens=16))).token_ids

        self._need("seeds")
        assert drawn(1) == drawn(1), "one seed drew two replies"
        assert len({drawn(seed) for seed in range(4)}) > 1, "every seed draws the same reply"

    # ---- jobs -----------------------------------------------------------------------------------------------------

    def test_a_stream_yields_what_the_result_holds(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that iterating, iterating once more and ``result`` give the same tokens."""
        job = engine.submit(prompts[1], decide(0.7, sampling=seeded(DRAWN, 3), max_tokens=12))
        streamed = list(job)
        assert streamed, "nothing was decoded"
        assert tuple(streamed) == job.result(self.patience).events, "stream and result differ"
        assert list(job) == streamed, "a second reader starts from the first token"

    def test_a_cancelled_request_ends_soon(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that ``cancel`` ends a running job, which keeps what it had decoded; and that the engine goes on."""
        request = self._long_request(engine, prompts)
        for _ in range(TRIES):
            job = engine.submit(*request)
            tokens = iter(job)
            seen = [next(tokens)]
            job.cancel()
            job.cancel()
            error = raised(Cancelled, seen.extend, tokens)
            if error is not None:
                break
        else:
            pytest.fail("a cancelled request was decoded to its end")
        assert error.generation is not None, "the error holds what had been decoded"
        assert list(error.generation.events[: len(seen)]) == seen, "what a reader saw is missing in the error"
        with pytest.raises(Cancelled):
            job.result(self.patience)
        assert self._run(engine, (prompts[0], decide(0.3, max_tokens=2))).output_tokens <= 2

    def test_cancelling_leaves_the_others_alone(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that a request beside a cancelled one gets all of its tokens."""
        other = (prompts[0], decide(1.0, sampling=seeded(DRAWN, 5), max_tokens=24))
        alone = self._run(engine, other)
        doomed = engine.submit(*self._long_request(engine, prompts))
        job = engine.submit(*other)
        doomed.cancel()
        self._assert_equal(alone, job.result(self.patience), "the neighbour of a cancelled request differs")

    def test_a_timeout_ends_a_request(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that ``Limits.timeout`` seconds after submission a request fails with what it had decoded."""
        prompt, decision = self._long_request(engine, prompts)
        began = time.monotonic()
        whole = self._run(engine, (prompt, decision))
        seconds = time.monotonic() - began
        for share in (4, 16, 64, 256, 0):
            limits = dataclasses.replace(decision.limits, timeout=seconds / share if share else 0.0)
            job = engine.submit(prompt, dataclasses.replace(decision, limits=limits))
            error = raised(DeadlineExceeded, job.result, self.patience)
            if error is not None:
                break
        else:
            pytest.fail("a request outlived its timeout")
        assert error.generation is not None, "the error holds what had been decoded"
        assert error.generation.output_tokens < whole.output_tokens

    def test_close_ends_what_runs_and_refuses_what_comes(
        self, open_engine: Callable[[], Engine], prompts: Sequence[Prompt]
    ) -> None:
        """Check that after ``close`` everything fails with ``EngineClosed``, and that it may be closed twice."""
        for _ in range(TRIES):
            engine = open_engine()
            job = engine.submit(*self._long_request(engine, prompts))
            next(iter(job))
            engine.close()
            engine.close()
            error = raised(EngineClosed, job.result, self.patience)
            if error is not None:
                break
        else:
            pytest.fail("close() let a running request go on")
        assert error.generation is not None, "the error holds what had been decoded"
        with pytest.raises(EngineClosed):
            engine.submit(prompts[0], decide(0.0, max_tokens=1))
        with pytest.raises(EngineClosed):
            engine.generate(prompts[0], decide(0.0, max_tokens=1))
        if self.supports_scoring:
            with pytest.raises(EngineClosed):
                engine.score(prompts[0], prompts[1].token_ids, Intensity(0.0))

    # ---- log-probabilities ----------------------------------------------------------------------------------------

    def test_logprobs_are_of_one_distribution(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that log-probs are of the raw softmax: sorted, of total at most 1, one per token."""
        self._need("logprobs")
        events: tuple[TokenEvent, ...] = ()
        for seed in range(2, 2 + TRIES):  # a reply may end before it has begun
            sampling = dataclasses.replace(seeded(HOT, seed), logprobs=8)
            events += self._run(engine, (prompts[0], decide(0.7, sampling=sampling, max_tokens=12))).events
        assert events, "nothing was decoded"
        for event in events:
            said = event.logprob
            assert said is not None, "a token has no log-prob"
            assert said.token_id == event.token_id
            values = [value for _, value in said.top]
            assert len(values) == 8, "as many alternatives as were asked for"
            assert values == sorted(values, reverse=True), "alternatives are sorted, the best first"
            known = {**dict(said.top), event.token_id: said.logprob}
            total = sum(math.exp(value) for value in known.values())
            assert total <= 1 + self.tolerance, f"probabilities add up to {total}"
            assert abs(known[event.token_id] - dict(said.top).get(event.token_id, said.logprob)) <= self.tolerance
            assert said.logprob <= values[0] + self.tolerance, "a token is better than the best"

    def test_greedy_decoding_draws_the_best_token(
        self, engine: Engine, tokenizer: Any, prompts: Sequence[Prompt]
    ) -> None:
        """Check that at temperature 0 each token is the most probable one, control tokens aside."""
        self._need("logprobs")
        control = set(tokenizer.get_added_vocab().values())
        sampling = dataclasses.replace(GREEDY, logprobs=8)
        for at in INTENSITIES:
            for event in self._run(engine, (prompts[1], decide(at, sampling=sampling, max_tokens=8))).events:
                assert event.logprob is not None
                best = max((v for t, v in event.logprob.top if t not in control), default=event.logprob.logprob)
                assert event.logprob.logprob >= best - self.tolerance, "a token is not the most probable one"

    def test_scores_equal_the_logprobs_of_decoding(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that ``score`` gives what decoding at the same λ gave, and something else at another λ."""
        self._need("scoring")
        assert engine.score(prompts[0], (), Intensity(0.3)) == (), "no completion has no scores"
        sampling = dataclasses.replace(seeded(DRAWN, 4), logprobs=0 if self.supports_logprobs else None)
        differs = False
        for at in INTENSITIES:
            out = self._run(engine, (prompts[2], decide(at, sampling=sampling, max_tokens=10)))
            scores = engine.score(prompts[2], out.token_ids, Intensity(at))
            assert len(scores) == out.output_tokens, "every token has a score"
            assert max(scores) <= 0, "a score is a log-probability"
            for event, score in zip(out.events, scores, strict=True):
                if event.logprob is not None:
                    assert abs(event.logprob.logprob - score) <= self.tolerance, "scoring and decoding disagree"
            other = engine.score(prompts[2], out.token_ids, Intensity(1.0 if at < 0.5 else 0.0))
            differs |= max(abs(a - b) for a, b in zip(scores, other, strict=True)) > self.tolerance
        assert differs, "scores do not depend on λ"

    # ---- caps -----------------------------------------------------------------------------------------------------

    def test_max_tokens_is_never_exceeded(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check ``max_tokens``, that a reply that was cut says ``length``, and that one that was not says ``stop``."""
        cut = 0
        for most in (1, 2, 7):
            for prompt in self._both_templates(prompts[0]):
                request = prompt, decide(0.7, sampling=seeded(DRAWN, most), max_tokens=most)
                out = self._run(engine, request)
                assert out.output_tokens <= most, f"{out.output_tokens} tokens, {most} were allowed"
                assert out.finish_reason == "stop" or out.output_tokens == most, "a reply was cut before its cap"
                cut += out.finish_reason == "length"
        assert cut, "no reply was cut at its cap; give prompts whose replies are longer"

    def test_max_reasoning_tokens_is_never_exceeded(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check the caps of a thought, by the same count as budgets and usage, and that it comes before the answer."""
        self._need("thoughts")
        capped = 0
        for cap, reserve in ((0, 0), (1, 0), (5, 0), (None, 24)):
            for seed in range(2):
                limits = {"max_tokens": 30, "max_reasoning_tokens": cap, "answer_reserve": reserve}
                request = thinking(prompts[0]), decide(1.0, sampling=seeded(DRAWN, seed), **limits)
                out = self._run(engine, request)
                most = 30 - reserve if cap is None else cap
                assert out.reasoning_tokens <= most, f"{out.reasoning_tokens} tokens of thought, {most} were allowed"
                assert out.output_tokens <= 30
                parts = [event.part for event in out.events]
                assert "reasoning" not in parts[out.reasoning_tokens :], "a thought goes on after its end"
                if out.thought_closed_by == "cap":
                    capped += 1
                    assert cap is None or out.reasoning_tokens == cap, "closed at its cap, before its cap"
                    assert "control" in parts, "the marker that closes a thought is output, of part control"
        assert capped, "no thought was closed at its cap; give prompts whose thoughts are longer"

    def test_the_context_window_holds(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that prompt and reply together never outgrow ``info.context_length``."""
        length = engine.info.context_length
        tokens = (prompts[0].token_ids * length)[:length]
        with pytest.raises(ContextOverflow):
            engine.submit(dataclasses.replace(prompts[0], token_ids=tokens), decide(0.0))
        full = dataclasses.replace(prompts[0], token_ids=tokens[: length - 3])
        assert self._run(engine, (full, decide(0.0))).output_tokens <= 3, "a reply outgrows the context window"

    def test_a_stop_string_ends_the_answer(self, engine: Engine, tokenizer: Any, prompts: Sequence[Prompt]) -> None:
        """Check that decoding ends with the token that completes a stop string, which the generation names."""
        self._need("stop_strings")
        (prompt, decision), free, stop = self._stop_string_of(engine, tokenizer, prompts)
        limits = dataclasses.replace(decision.limits, stop=("never written here", stop))
        out = self._run(engine, (prompt, dataclasses.replace(decision, limits=limits)))
        text = tokenizer.decode(list(out.token_ids))
        assert (out.stop_string, out.finish_reason) == (stop, "stop"), "the stop string did not end the answer"
        assert text.split(stop)[0] == free.split(stop)[0], "the text before a stop string changed"
        assert stop not in tokenizer.decode(list(out.token_ids[:-1])), "decoding went on after the stop string"

    def test_a_stop_string_does_not_act_in_a_thought(
        self, engine: Engine, tokenizer: Any, prompts: Sequence[Prompt]
    ) -> None:
        """Check that a thought may hold what ends an answer."""
        self._need("stop_strings")
        self._need("thoughts")
        decision = decide(1.0, sampling=seeded(DRAWN, 1), max_tokens=30, max_reasoning_tokens=12)
        free = self._run(engine, (thinking(prompts[1]), decision))
        thought = tokenizer.decode([event.token_id for event in free.events if event.part == "reasoning"])
        stops = tuple({character for character in thought if character.isprintable() and character != "\ufffd"})
        assert stops, "nothing was thought; give prompts whose thoughts are longer"
        limits = dataclasses.replace(decision.limits, stop=stops)
        out = self._run(engine, (thinking(prompts[1]), dataclasses.replace(decision, limits=limits)))
        assert out.reasoning_tokens == free.reasoning_tokens, "a stop string ended a thought"

    # ---- grammars ---------------------------------------------------------------------------------------------------

    def test_a_schema_is_never_violated(self, engine: Engine, tokenizer: Any, prompts: Sequence[Prompt]) -> None:
        """Check that hot sampling under a JSON schema ends with an instance of it, at every λ."""
        self._need("grammars")
        constraint = Constraint(kind="json_schema", text=json.dumps(_TRIP), tool_calls=False)
        prompt = dataclasses.replace(prompts[0], constraint=constraint)
        for at in INTENSITIES:
            request = prompt, decide(at, sampling=seeded(HOT, int(10 * at)), max_tokens=150)
            out = self._run(engine, request)
            assert out.finish_reason == "stop", "a bounded grammar comes to an end"
            jsonschema.validate(json.loads(tokenizer.decode(list(out.token_ids))), _TRIP)

    def test_a_refused_token_is_never_drawn(self, engine: Engine, tokenizer: Any, prompts: Sequence[Prompt]) -> None:
        """Check every token of replies that a cap cuts off inside their grammar, beside free requests."""
        self._need("grammars")
        prompt = dataclasses.replace(prompts[0], constraint=Constraint(kind="lark", text="start: /[ab]{30,40}/"))
        limits = {"max_tokens": 10}
        held = [engine.submit(prompt, decide(at, sampling=seeded(HOT, 1), **limits)) for at in INTENSITIES]
        free = [engine.submit(prompts[0], decide(at, sampling=seeded(HOT, 1), **limits)) for at in INTENSITIES]
        for job in held:
            text = tokenizer.decode(list(job.result(self.patience).token_ids))
            assert re.fullmatch("[ab]+", text), f"the grammar refuses {text!r}"
        texts = [tokenizer.decode(list(job.result(self.patience).token_ids)) for job in free]
        assert not all(re.fullmatch("[ab]+", text) for text in texts), "the grammar held requests that have none"

    def test_a_malformed_grammar_is_refused(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that ``submit`` itself refuses a grammar that cannot be compiled."""
        self._need("grammars")
        for kind, text in (("json_schema", '{"type": "strnig"}'), ("lark", "start: nonsense")):
            prompt = dataclasses.replace(prompts[0], constraint=Constraint(kind=kind, text=text))  # type: ignore[arg-type]
            with pytest.raises(InvalidSchema):
                engine.submit(prompt, decide(0.0, max_tokens=1))

    # ---- requests ---------------------------------------------------------------------------------------------------

    def test_bad_requests_are_refused(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that ``submit`` itself refuses what no engine can serve, and serves the next request."""
        bad: tuple[tuple[str, Any], ...] = (
            ("max_tokens", 0), ("max_reasoning_tokens", -1), ("stop", ("",)), ("timeout", -1.0)
        )  # fmt: skip
        for name, value in bad:
            with pytest.raises(InvalidRequest):
                engine.submit(prompts[0], decide(0.0, **{name: value}))
        beyond = [(engine.info.vocab_size,)] if engine.info.vocab_size else []
        for tokens in [(), (-1,), *beyond]:
            with pytest.raises(InvalidRequest):
                engine.submit(dataclasses.replace(prompts[0], token_ids=tokens), decide(0.0, max_tokens=1))
        assert self._run(engine, (prompts[0], decide(0.0, max_tokens=1))).output_tokens <= 1

    def test_a_continued_reply_equals_an_uninterrupted_one(self, engine: Engine, prompts: Sequence[Prompt]) -> None:
        """Check that ``reply_ids`` are output: counted, given out again, and gone on from.

        They end where the pipeline's do: inside an answer (an estimator's probe), or at the end of a thought.
        """
        self._need("continuation")
        for prompt in self._both_templates(prompts[1]):
            decision = decide(0.3, sampling=self._logged(GREEDY), max_tokens=16, max_reasoning_tokens=6)
            whole = self._run(engine, (prompt, decision))
            answer = next((at for at, event in enumerate(whole.events) if event.part == "answer"), 0)
            for cut in {answer} if prompt.in_thought else {1, whole.output_tokens // 2}:
                begun = dataclasses.replace(prompt, reply_ids=whole.token_ids[:cut])
                out = self._run(engine, (begun, decision))
                assert out.prompt_tokens == len(prompt.token_ids), "what was decoded before is not part of the prompt"
                assert out.token_ids[:cut] == whole.token_ids[:cut], "the reply does not begin with what was decoded"
                self._assert_equal(whole, out, "a continued reply differs", after=cut)
