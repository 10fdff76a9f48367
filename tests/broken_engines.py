"""Engines that break one promise each, around a sound one; and which test of the contract each must fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from dami_agent.errors import InvalidRequest
from dami_agent.types import Decision, Engine, Generation, Intensity, Job, Prompt, TokenEvent


class AnEngine:
    """Passes everything on: what all broken ones are otherwise."""

    def __init__(self, inner: Engine) -> None:
        self.inner, self.info = inner, inner.info

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        return self.inner.submit(prompt, decision)

    def generate(self, prompt: Prompt, decision: Decision) -> Generation:
        return self.submit(prompt, decision).result()

    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        return self.inner.score(prompt, completion, intensity)

    def close(self) -> None:
        self.inner.close()


class AJob:
    def __init__(self, inner: Job, change: Callable[[Generation], Generation] = lambda generation: generation) -> None:
        self.inner, self.change = inner, change

    def __iter__(self) -> Iterator[TokenEvent]:
        return iter(self.inner)

    def result(self, timeout: float | None = None) -> Generation:
        return self.change(self.inner.result(timeout))

    def cancel(self) -> None:
        self.inner.cancel()


class CountsNoPrompt(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        return AJob(self.inner.submit(prompt, decision), lambda out: replace(out, prompt_tokens=0))


class KnowsOneIntensity(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        job = self.inner.submit(prompt, replace(decision, intensity=Intensity(0.5)))
        return AJob(job, lambda out: replace(out, intensity=decision.intensity))


class LeaksIntensity(AnEngine):
    """Decodes at the λ of a request that runs already, as a batch without a λ per row would."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self.running: list[tuple[Any, Intensity]] = []

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        self.running = [(job, at) for job, at in self.running if not job.done]
        at = self.running[0][1] if self.running else decision.intensity
        job: Any = self.inner.submit(prompt, replace(decision, intensity=at))
        self.running.append((job, at))
        return AJob(job, lambda out: replace(out, intensity=decision.intensity))


class IgnoresSeeds(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        return self.inner.submit(prompt, replace(decision, sampling=replace(decision.sampling, seed=None)))


class LosesTheFirstToken(AnEngine):
    class Losing(AJob):
        def __iter__(self) -> Iterator[TokenEvent]:
            return iter(list(self.inner)[1:])

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        return self.Losing(self.inner.submit(prompt, decision))


class NeverCancels(AnEngine):
    class Stubborn(AJob):
        def cancel(self) -> None:
            pass

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        return self.Stubborn(self.inner.submit(prompt, decision))


class CancelsEverybody(AnEngine):
    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self.jobs: list[Job] = []

    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        job, jobs = self.inner.submit(prompt, decision), self.jobs
        jobs.append(job)

        class Sweeping(AJob):
            def cancel(self) -> None:
                for each in jobs:
                    each.cancel()

        return Sweeping(job)


class OutlivesTimeouts(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        return self.inner.submit(prompt, _limited(decision, timeout=None))


class NeverCloses(AnEngine):
    def close(self) -> None:
        pass


class FlattersItsLogprobs(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        def flatter(event: TokenEvent) -> TokenEvent:
            said = event.logprob
            if said is None:
                return event
            top = tuple((token, value / 4) for token, value in said.top)
            return replace(event, logprob=replace(said, logprob=said.logprob / 4, top=top))

        job = self.inner.submit(prompt, decision)
        return AJob(job, lambda out: replace(out, events=tuple(flatter(event) for event in out.events)))


class IsNeverGreedy(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        return self.inner.submit(prompt, replace(decision, sampling=replace(decision.sampling, temperature=1.5)))


class ScoresAtZero(AnEngine):
    def score(self, prompt: Prompt, completion: Sequence[int], intensity: Intensity) -> tuple[float, ...]:
        return self.inner.score(prompt, completion, Intensity(0.0))


class WritesOneTokenMore(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        most = decision.limits.max_tokens
        return self.inner.submit(prompt, _limited(decision, max_tokens=most + 1) if most else decision)


class ThinksOneTokenMore(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        cap = decision.limits.max_reasoning_tokens
        return self.inner.submit(prompt, decision if cap is None else _limited(decision, max_reasoning_tokens=cap + 1))


class OutgrowsItsWindow(AnEngine):
    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self.info = replace(inner.info, context_length=inner.info.context_length // 2)


class IgnoresStopStrings(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        return self.inner.submit(prompt, _limited(decision, stop=()))


class StopsInsideAThought(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        stops = prompt.in_thought and decision.limits.stop
        return self.inner.submit(prompt, _limited(decision, max_reasoning_tokens=1) if stops else decision)


class IgnoresGrammars(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        return self.inner.submit(replace(prompt, constraint=None), decision)


class TakesAnything(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        try:
            return self.inner.submit(prompt, decision)
        except InvalidRequest:
            return self.inner.submit(replace(prompt, token_ids=(1,)), _limited(decision, **_NO_LIMITS))


class TakesTheBegunReplyForThePrompt(AnEngine):
    def submit(self, prompt: Prompt, decision: Decision) -> Job:
        whole = (*prompt.token_ids, *prompt.reply_ids)
        return self.inner.submit(replace(prompt, token_ids=whole, reply_ids=()), decision)


_NO_LIMITS: dict[str, Any] = {"max_tokens": 1, "max_reasoning_tokens": None, "stop": (), "timeout": None}


def _limited(decision: Decision, **limits: Any) -> Decision:
    return replace(decision, limits=replace(decision.limits, **limits))


BROKEN: list[tuple[str, type[AnEngine]]] = [
    ("test_it_says_what_it_is", CountsNoPrompt),
    ("test_intensity_changes_what_is_decoded", KnowsOneIntensity),
    ("test_concurrent_requests_equal_each_alone", LeaksIntensity),
    ("test_equal_seeds_draw_equal_tokens", IgnoresSeeds),
    ("test_a_stream_yields_what_the_result_holds", LosesTheFirstToken),
    ("test_a_cancelled_request_ends_soon", NeverCancels),
    ("test_cancelling_leaves_the_others_alone", CancelsEverybody),
    ("test_a_timeout_ends_a_request", OutlivesTimeouts),
    ("test_close_ends_what_runs_and_refuses_what_comes", NeverCloses),
    ("test_logprobs_are_of_one_distribution", FlattersItsLogprobs),
    ("test_greedy_decoding_draws_the_best_token", IsNeverGreedy),
    ("test_scores_equal_the_logprobs_of_decoding", ScoresAtZero),
    ("test_max_tokens_is_never_exceeded", WritesOneTokenMore),
    ("test_max_reasoning_tokens_is_never_exceeded", ThinksOneTokenMore),
    ("test_the_context_window_holds", OutgrowsItsWindow),
    ("test_a_stop_string_ends_the_answer", IgnoresStopStrings),
    ("test_a_stop_string_does_not_act_in_a_thought", StopsInsideAThought),
    ("test_a_schema_is_never_violated", IgnoresGrammars),
    ("test_a_refused_token_is_never_drawn", IgnoresGrammars),
    ("test_a_malformed_grammar_is_refused", IgnoresGrammars),
    ("test_bad_requests_are_refused", TakesAnything),
    ("test_a_continued_reply_equals_an_uninterrupted_one", TakesTheBegunReplyForThePrompt),
]
