"""One request through the engine: limits, the thought, stop strings, log-probs, streaming, continuation."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dami_agent.errors import ContextOverflow, InvalidIntensity, InvalidRequest
from dami_agent.runtime import LocalEngine, ThoughtMarkers
from dami_agent.types import Engine, Generation, Job, Sampling
from tests.runtime.scripted import ScriptedWeights, reply_script
from tests.runtime.support import CONTEXT, GREEDY, Lab, ask, prompt_of

PROMPT = tuple(range(40, 60))
WARM = Sampling(temperature=1.0, top_p=0.9, top_k=40, seed=11)


def scripted(lab: Lab, reply: list[int], then: int = 33, **fields: object) -> LocalEngine:
    return lab.engine(weights=ScriptedWeights(reply_script(len(PROMPT), reply, then)), **fields)


def parts(generation: Generation) -> str:
    return "".join(event.part[0] for event in generation.events)  # r, c or a


def test_it_is_an_engine(mixed: LocalEngine) -> None:
    assert isinstance(mixed, Engine)
    job = mixed.submit(prompt_of(PROMPT), ask(max_tokens=2))
    assert isinstance(job, Job)
    assert job.result().output_tokens == 2
    assert "tiny" in repr(mixed)


# --- the thought -----------------------------------------------------------------------------------------------------


def test_thought_closed_by_the_model(lab: Lab) -> None:
    with scripted(lab, [1, 2, lab.close_id, 198, 5, lab.eos_ids[0]]) as engine:
        out = engine.generate(prompt_of(PROMPT, in_thought=True), ask(1.0))
    assert (out.token_ids, parts(out)) == ((1, 2, lab.close_id, 198, 5), "rrcaa")
    assert (out.thought_closed_by, out.finish_reason) == ("model", "stop")
    assert (out.reasoning_tokens, out.answer_tokens, out.output_tokens) == (2, 3, 5)  # the marker is not thought


def test_end_of_sequence_inside_the_thought_is_replaced_and_the_answer_decoded(lab: Lab) -> None:
    closing = [lab.close_id, *lab.after_close]
    eos = lab.eos_ids[1]
    with scripted(lab, [1, 2, eos, 0, 0, 7, 8, eos]) as engine:  # the model is not asked where the engine writes
        out = engine.generate(prompt_of(PROMPT, in_thought=True), ask(1.0))
    assert list(out.token_ids) == [1, 2, *closing, 7, 8]
    assert parts(out) == "rrcccaa"
    assert out.thought_closed_by == "eos"


def test_tool_call_inside_the_thought(lab: Lab) -> None:
    with scripted(lab, [1, lab.tool_call_id, 5, lab.eos_ids[0]]) as engine:
        out = engine.generate(prompt_of(PROMPT, in_thought=True), ask(1.0))
    assert (out.token_ids, parts(out)) == ((1, lab.tool_call_id, 5), "raa")
    assert out.thought_closed_by == "tool_call"


def test_thought_opened_by_the_model(lab: Lab) -> None:
    with scripted(lab, [lab.open_id, 1, lab.close_id, 5, lab.eos_ids[0]]) as engine:
        out = engine.generate(prompt_of(PROMPT), ask(0.5))
    assert parts(out) == "crca"
    assert out.thought_closed_by == "model"


@pytest.mark.parametrize("in_thought", [True, False])
def test_an_answer_never_opens_or_closes_a_thought(lab: Lab, in_thought: bool) -> None:
    """The model wants to in every second token, after a cap and without one; a masked token is another one."""
    script = [1, lab.close_id, 2, lab.open_id, 3, lab.close_id, 4, lab.eos_ids[0]]
    begun = [7] if not in_thought else []
    for cap in (None, 0, 1):
        with scripted(lab, [*begun, *script]) as engine:
            out = engine.generate(prompt_of(PROMPT, in_thought=in_thought), ask(1.0, max_reasoning_tokens=cap))
        answer = [event.token_id for event in out.events if event.part == "answer"]
        assert not {lab.open_id, lab.close_id}.intersection(answer)
        assert out.token_ids.count(lab.close_id) == (1 if in_thought else 0)
        assert 4 in answer


def test_a_cap_of_zero_leaves_no_thought_to_open(lab: Lab) -> None:
    with scripted(lab, [lab.open_id, 1, 5, lab.eos_ids[0]]) as engine:
        out = engine.generate(prompt_of(PROMPT), ask(0.5, max_reasoning_tokens=0))
    assert (set(parts(out)), out.reasoning_tokens) == ({"a"}, 0)
    assert lab.open_id not in out.token_ids


def test_a_thought_that_runs_in_a_circle_is_closed(lab: Lab) -> None:
    with scripted(lab, [1, 2, 3], then=4, context_length=2000) as engine:
        out = engine.generate(prompt_of(PROMPT, in_thought=True), ask(1.0, max_tokens=300))
        answer = engine.generate(prompt_of(PROMPT), ask(1.0))  # no thought: cut where it has plainly run away
    assert out.thought_closed_by == "repetition"
    assert 96 <= parts(out).count("r") <= 120
    assert parts(out).count("a") > 100
    assert answer.finish_reason == "length"
    assert 384 <= answer.output_tokens <= 450
    with scripted(lab, [1, 2, 3], then=4, loop_rule=None) as engine:
        out = engine.generate(prompt_of(PROMPT, in_thought=True), ask(1.0, max_tokens=300))
    assert (out.thought_closed_by, out.finish_reason, parts(out)) == (None, "length", "r" * 300)


@pytest.mark.parametrize(
    ("cap", "reserve", "thought"), [(None, 0, 40), (5, 0, 5), (0, 0, 0), (None, 20, 17), (30, 39, 0)]
)
def test_caps_of_a_real_model(lab: Lab, engine: LocalEngine, cap: int | None, reserve: int, thought: int) -> None:
    decision = ask(0.8, sampling=WARM, max_tokens=40, max_reasoning_tokens=cap, answer_reserve=reserve)
    for seed in range(40):
        out = engine.generate(prompt_of(PROMPT, in_thought=True), replace(decision, sampling=replace(WARM, seed=seed)))
        if out.thought_closed_by in (None, "cap"):
            break
    closing = (lab.close_id, *lab.after_close)
    assert out.token_ids[thought:][: len(closing)] == closing[: max(0, 40 - thought)]
    assert parts(out).startswith("r" * thought + "ccc"[: 40 - thought])
    assert out.thought_closed_by == (None if thought == 40 else "cap")
    assert out.output_tokens <= 40
    assert reserve in (0, 39) or out.finish_reason == "stop" or parts(out).count("a") == reserve


def test_a_thought_needs_a_token_that_closes_it(lab: Lab) -> None:
    with lab.engine(markers=ThoughtMarkers()) as engine, pytest.raises(InvalidRequest, match="closes"):
        engine.submit(prompt_of(PROMPT, in_thought=True), ask(1.0))


# --- limits ----------------------------------------------------------------------------------------------------------


def test_without_a_limit_the_context_window_is_one(lab: Lab) -> None:
    with scripted(lab, [], then=4, context_length=50, loop_rule=None) as engine:
        out = engine.generate(prompt_of(PROMPT), ask())
    assert (out.finish_reason, out.output_tokens) == ("length", 30)


def test_overflow_is_refused_before_work_begins(lab: Lab) -> None:
    engine = lab.engine(weights=lambda: pytest.fail("loaded weights"))
    full = prompt_of([1] * CONTEXT)
    for prompt, decision in (
        (full, ask()),
        (full, ask(max_tokens=1)),
        (prompt_of(PROMPT), ask(max_tokens=CONTEXT - len(PROMPT) + 1)),
        (prompt_of([1] * (CONTEXT - 3), reply_ids=(1, 2, 3)), ask()),
    ):
        with pytest.raises(ContextOverflow, match="512"):
            engine.submit(prompt, decision)
    with pytest.raises(ContextOverflow):
        engine.score(full, [1], ask().intensity)
    engine.close()


@pytest.mark.parametrize(
    "bad",
    [
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"max_reasoning_tokens": -1},
        {"answer_reserve": -1},
        {"stop": ("",)},
        {"timeout": float("nan")},
        {"timeout": -1.0},
        {"sampling": Sampling(temperature=-1)},
    ],
)
def test_requests_that_make_no_sense(mixed: LocalEngine, bad: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        mixed.submit(prompt_of(PROMPT), ask(**bad))  # type: ignore[arg-type]


def test_prompts_that_make_no_sense(mixed: LocalEngine) -> None:
    for tokens in ([], [-1], [320], [1.0], [True]):
        with pytest.raises(InvalidRequest):
            mixed.submit(prompt_of(tokens), ask())  # type: ignore[arg-type]
    with pytest.raises(InvalidIntensity):
        mixed.score(prompt_of(PROMPT), [1], 1.5)  # type: ignore[arg-type]
    assert mixed.score(prompt_of(PROMPT), [], ask().intensity) == ()


# --- stop strings ----------------------------------------------------------------------------------------------------


def test_a_stop_string_across_tokens(lab: Lab) -> None:
    text = "So it is 42. Done; and more"
    reply = lab.tokenizer.encode(text, add_special_tokens=False)
    with scripted(lab, reply) as engine:
        out = engine.generate(prompt_of(PROMPT), ask(stop=("zzz", "e;", "42. D")))
        plain = engine.generate(prompt_of(PROMPT), ask(stop=("not there",), max_tokens=len(reply)))
    written = lab.tokenizer.decode(out.token_ids)
    assert (out.stop_string, out.finish_reason) == ("42. D", "stop")
    assert "42. D" in written
    assert "42. D" not in lab.tokenizer.decode(out.token_ids[:-1])
    assert (plain.stop_string, plain.finish_reason) == (None, "length")


def test_a_stop_string_does_not_act_inside_the_thought(lab: Lab) -> None:
    word = lab.tokenizer.encode("42", add_special_tokens=False)
    with scripted(lab, [*word, lab.close_id, *word]) as engine:
        out = engine.generate(prompt_of(PROMPT, in_thought=True), ask(1.0, stop=("42",)))
    assert list(out.token_ids) == [*word, lab.close_id, *word]
    assert out.stop_string == "42"


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab é∑😀\n", min_size=1, max_size=30), st.data())
def test_stop_strings_equal_searching_the_whole_text(lab: Lab, text: str, data: st.DataObject) -> None:
    from dami_agent.runtime.stop_strings import StopStrings

    cuts = st.tuples(st.integers(0, len(text) - 1), st.integers(1, 6)).map(lambda c: text[c[0] : c[0] + c[1]])
    stops = data.draw(st.lists(cuts | st.text(alphabet="ab é😀", min_size=1, max_size=3), min_size=1, max_size=3))
    watcher = StopStrings(stops, lab.tokenizer)
    tokens = lab.tokenizer.encode(text, add_special_tokens=False)
    for i, token in enumerate(tokens):
        so_far = lab.tokenizer.decode(tokens[: i + 1])
        lead = len(so_far) - len(so_far.lstrip("\n"))
        ends = range(lead + 1, len(so_far) + 1)
        expected = [(end, -len(s), s) for end in ends for s in stops if so_far[:end].endswith(s)]
        assert watcher.push(token) == (min(expected)[2] if expected else None)
        if expected:
            return


class MergedTokenizer:
    """Tokens of any text: what a byte-pair tokenizer with other merges would make of it."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(self.pieces[i] for i in ids)


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(st.text("abc\n", min_size=1, max_size=5), max_size=8),
    stops=st.lists(st.text("abc\n", min_size=1, max_size=4), min_size=1, max_size=3),
    continues=st.booleans(),
)
@example(pieces=["abc"], stops=["abc", "b"], continues=False)
@example(pieces=["\n\n", "yes"], stops=["\n\n"], continues=False)
@example(pieces=["\n\n", "yes"], stops=["\n\n"], continues=True)
@example(pieces=["\n", "\n", "\n", "a", "\n"], stops=["\n"], continues=False)
def test_the_engine_stops_where_the_dialogue_cuts(pieces: list[str], stops: list[str], continues: bool) -> None:
    """However the text is cut into tokens; and the answer holds no stop string."""
    from dami_agent.dialogue.text import StopCutter
    from dami_agent.runtime.stop_strings import StopStrings

    tokenizer: Any = MergedTokenizer(pieces)
    watcher = StopStrings(stops, tokenizer, continues=continues)
    cutter = StopCutter(stops, continues=continues)
    answer, reported = "", None
    for token, piece in enumerate(pieces):
        reported = watcher.push(token)
        answer += cutter.feed(piece)
        assert cutter.stop_string == reported
        if reported is not None:
            assert "".join(pieces[: token + 1]).startswith(answer + reported)
            break
    answer += cutter.finish()
    if reported is None:
        assert answer == "".join(pieces)
    assert not any(stop in (answer if continues else answer.lstrip("\n")) for stop in stops)

    whole = StopCutter(stops, continues=continues)  # as one piece, as the fake engine does
    assert (whole.feed("".join(pieces)) + whole.finish(), whole.stop_string) == (answer, reported)


def test_a_stop_string_in_the_newlines_that_open_an_answer_does_not_end_it(lab: Lab) -> None:
    tokens = lab.tokenizer.encode("\n\n42. D\n\nE", add_special_tokens=False)
    with scripted(lab, tokens) as engine:
        out = engine.generate(prompt_of(PROMPT), ask(0.0, stop=("\n\n",)))
        rest = engine.generate(prompt_of(PROMPT, continues=True), ask(0.0, stop=("\n\n",)))
    assert (lab.tokenizer.decode(out.token_ids), out.stop_string) == ("\n\n42. D\n\n", "\n\n")
    assert (lab.tokenizer.decode(rest.token_ids), rest.stop_string) == ("\n\n", "\n\n")


# --- log-probs, seeds, streaming -------------------------------------------------------------------------------------


def test_logprobs_are_of_the_raw_softmax(lab: Lab, engine: LocalEngine) -> None:
    sampling = replace(WARM, temperature=0.5, repetition_penalty=1.3, logprobs=3)
    out = engine.generate(
        prompt_of(PROMPT, in_thought=True), ask(0.4, sampling=sampling, max_tokens=20, max_reasoning_tokens=5)
    )
    reference = lab.logits(0.4, [*PROMPT, *out.token_ids]).log_softmax(-1)[len(PROMPT) - 1 : -1]
    for event, row in zip(out.events, reference, strict=True):
        assert event.logprob is not None
        assert event.logprob.token_id == event.token_id
        assert event.logprob.logprob == pytest.approx(float(row[event.token_id]), abs=1e-4)
        best = row.topk(3)
        assert [p for _, p in event.logprob.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    only = engine.generate(prompt_of(PROMPT), ask(sampling=replace(GREEDY, logprobs=0), max_tokens=3))
    assert all(e.logprob is not None and e.logprob.top == () for e in only.events)
    assert all(e.logprob is None for e in engine.generate(prompt_of(PROMPT), ask(max_tokens=3)).events)


def test_sampling_is_recorded_with_every_default(engine: LocalEngine) -> None:
    instruct = engine.generate(prompt_of(PROMPT), ask(0.0, sampling=Sampling(), max_tokens=5))
    thinking = engine.generate(prompt_of(PROMPT), ask(0.01, sampling=Sampling(), max_tokens=5))
    assert (instruct.sampling.temperature, instruct.sampling.top_p, instruct.sampling.top_k) == (0.7, 0.8, 20)
    assert (thinking.sampling.temperature, thinking.sampling.top_p, thinking.sampling.top_k) == (0.6, 0.95, 20)
    again = engine.generate(prompt_of(PROMPT), ask(0.01, sampling=thinking.sampling, max_tokens=5))
    assert again.token_ids == thinking.token_ids
    assert again.sampling == thinking.sampling


def test_every_token_is_a_draw_of_its_own(lab: Lab) -> None:
    flat = Sampling(temperature=1000.0, top_p=1.0, top_k=0, seed=9)
    with scripted(lab, [], eos_token_ids=[319], markers=ThoughtMarkers()) as engine:
        out = engine.generate(prompt_of(PROMPT), ask(1.0, sampling=flat, max_tokens=200))
    assert out.output_tokens < 200 or len(set(out.token_ids)) > 100


def test_streamed_and_whole_are_the_same(engine: LocalEngine) -> None:
    job = engine.submit(prompt_of(PROMPT, in_thought=True), ask(0.6, max_tokens=30, max_reasoning_tokens=8))
    streamed = list(job)
    assert tuple(streamed) == job.result().events
    assert list(job) == streamed  # replays from the first


def test_timing_adds_up(lab: Lab) -> None:
    with lab.engine("merged") as engine:
        engine.load()
        for intensity in (0.2, 0.9):
            out = engine.generate(prompt_of(PROMPT), ask(intensity, max_tokens=10))
            t = out.timing
            assert min(t.queue, t.switch, t.prefill, t.first_token, t.decode) >= 0
            assert t.switch > 0
            assert t.prefill > 0
            assert t.first_token + t.decode == pytest.approx(t.total)
            assert t.queue + t.switch + t.prefill <= t.first_token + 1e-3
            assert (out.weights_mode, out.weights_version > 0) == ("merged", True)


# --- continuing a reply ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "sampled"])
@pytest.mark.parametrize("in_thought", [False, True])
def test_a_continued_reply_equals_an_uninterrupted_one(
    engine: LocalEngine, sampling: Sampling, in_thought: bool
) -> None:
    rng = random.Random(4)
    for _ in range(4):
        tokens = [rng.randrange(300) for _ in range(rng.randint(1, 40))]
        decision = ask(0.3, sampling=sampling, max_tokens=30, max_reasoning_tokens=9)
        whole = engine.generate(prompt_of(tokens, in_thought=in_thought), decision)
        cut = rng.randint(0, whole.output_tokens - 1)
        prompt = prompt_of(tokens, in_thought=in_thought, reply_ids=whole.token_ids[:cut])
        job = engine.submit(prompt, decision)
        again = job.result()
        assert again.token_ids == whole.token_ids
        assert [e.part for e in again.events] == [e.part for e in whole.events]
        assert (again.finish_reason, again.thought_closed_by) == (whole.finish_reason, whole.thought_closed_by)
        assert again.prompt_tokens == len(tokens)
        assert list(job) == list(again.events)


def test_a_reply_that_is_complete_already(mixed: LocalEngine) -> None:
    out = mixed.generate(prompt_of(PROMPT, reply_ids=(1, 2, 3)), ask(max_tokens=3))
    assert (out.token_ids, out.finish_reason) == ((1, 2, 3), "length")


def test_a_finished_reply_cannot_be_continued(lab: Lab, mixed: LocalEngine) -> None:
    with pytest.raises(InvalidRequest, match="end-of-sequence"):
        mixed.submit(prompt_of(PROMPT, reply_ids=(1, lab.eos_ids[0])), ask())


def test_a_greedy_answer_is_the_references_argmax(lab: Lab, engine: LocalEngine) -> None:
    out = engine.generate(prompt_of(PROMPT, in_thought=True), ask(0.7, max_tokens=60, max_reasoning_tokens=10))
    free = [i for i, e in enumerate(out.events) if e.part != "control"]
    logits = lab.logits(0.7, [*PROMPT, *out.token_ids])
    for i in free:
        row: torch.Tensor = logits[len(PROMPT) + i - 1]
        assert float(row.max() - row[out.token_ids[i]]) < 1e-3
