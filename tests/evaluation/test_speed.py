"""The speed benchmark compares equal work, and its ratios are the quotients it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import InvalidRequest, RunError, UsageError
from dami_agent.evaluation.speed import GOALS, SHAPES, SpeedPlan, random_pair
from dami_agent.evaluation.speed.bench import Bench, at_once, computing_on
from dami_agent.evaluation.speed.comparison import Comparison, Work, in_turn
from dami_agent.evaluation.speed.decoding import _longest_loop
from dami_agent.evaluation.speed.goals import judged, row
from dami_agent.evaluation.speed.random_pair import write_random_pair
from dami_agent.evaluation.speed.reference import TransformersModel, merge_files
from dami_agent.evaluation.speed.workload import FULL, QUICK, Prompts, spread_lambdas
from dami_agent.runtime.hidden_ids import ids_without_text
from dami_agent.types import Intensity
from dami_agent.weights import load_weights
from tests.pairs import edit_json, write_pair
from tests.weights import reference


def bench_of(pair: CheckpointPair) -> Bench:
    prompts = Prompts(pair.instruct.tokenizer(), pair.config["vocab_size"])
    return Bench(pair=pair, device="cpu", dtype="float32", workload=QUICK, prompts=prompts, tell=lambda *_: None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> CheckpointPair:
    return write_random_pair(tmp_path_factory.mktemp("tiny"), "tiny")


# --- goals and rows ---------------------------------------------------------------------------------------------------


def test_seconds_that_must_be_fewer_are_divided_the_other_way_round() -> None:
    slower = row("pair", "switch_floor", 3.0, 2.0, "")
    assert (slower["ratio"], slower["unit"]) == (1.5, "s")
    assert row("pair", "switch_vs_reload", 0.002, 4.0, "")["ratio"] == 2000
    assert row("pair", "prefix_reuse", 0.5, 2.0, "")["ratio"] == 4
    faster = row("pair", "decode_single", 130.0, 100.0, "")
    assert (faster["ratio"], faster["unit"]) == (1.3, "tokens/s")


@pytest.mark.parametrize(
    ("name", "ratio", "met"),
    [
        ("switch_floor", 1.15, "aim"),
        ("switch_floor", 1.5, "must"),
        ("switch_floor", 1.51, "missed"),
        ("decode_single", 1.3, "aim"),
        ("decode_single", 1.0, "must"),
        ("decode_single", 0.99, "missed"),
    ],
)
def test_a_ratio_is_judged_by_its_bounds(name: str, ratio: float, met: str) -> None:
    assert GOALS[name].verdict(ratio, None) == met


def test_overhead_is_judged_for_the_shape_it_is_meant_for() -> None:
    rows = [row("pair", "overhead", 0.001, 0.1, "")]
    assert judged(rows, "0.6b")[0]["met"] == "aim"
    assert judged(rows, "tiny")[0]["met"] is None
    assert judged(rows, None)[0]["met"] is None


# --- equal work -------------------------------------------------------------------------------------------------------


def test_ours_and_the_reference_take_turns_and_the_first_of_each_does_not_count() -> None:
    calls: list[str] = []

    def side(name: str, seconds: float) -> object:
        def measure(number: int) -> Work:
            calls.append(f"{name}{number}")
            return Work(seconds=seconds * (100 if number == 0 else number), new_tokens=12)

        return measure

    told: list[tuple[int, int]] = []
    found = in_turn(side("a", 1.0), side("b", 2.0), 3, lambda *progress: told.append(progress))
    assert calls == ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3"]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert found.seconds() == (2.0, 4.0)
    assert found.rates() == (6.0, 3.0)
    assert found.per_token() == (1 / 6, 1 / 3)


@pytest.mark.parametrize("other", [{"new_tokens": 7}, {"prompt_tokens": 4}, {"requests": 2}])
def test_unequal_work_is_not_compared(other: dict[str, int]) -> None:
    same = {"requests": 1, "prompt_tokens": 5, "new_tokens": 8}
    with pytest.raises(RunError, match="did not do the same work"):
        Comparison(ours=(Work(seconds=1.0, **same),), reference=(Work(seconds=1.0, **(same | other)),))


def test_both_sides_write_past_an_end_of_sequence(tmp_path: Path) -> None:
    """Every token is made an end of sequence, so that either side would end at once if it heeded it."""
    paths = write_pair(tmp_path, dtype="float32", seed=3)
    for path in paths:
        edit_json(path / "generation_config.json", eos_token_id=list(range(320)))
    pair = CheckpointPair.open(*paths)
    assert len(pair.eos_token_ids) == 320
    bench = bench_of(pair)
    prompts = bench.prompts.draw([5, 9, 30], "equal")
    merge_files(*paths, 0.5, tmp_path / "merged")
    model = TransformersModel(tmp_path / "merged", "cpu", "float32")
    with bench.engine("merged") as engine:
        ours = at_once(engine, prompts, [Intensity(0.5)] * 3, 12)
    assert ours.amount == (3, 44, 36)
    assert model.generate(prompts, 12).amount == ours.amount
    assert model.generate_batch(prompts, 12).amount == ours.amount


def test_the_references_files_are_merged_as_weights_are(tmp_path: Path) -> None:
    paths = write_pair(tmp_path, shards=3, dtype="bfloat16")
    merge_files(*paths, 0.25, tmp_path / "ours")
    slow = load_file(reference.merge_files(*paths, 0.25, tmp_path / "slow") / "model.safetensors")
    files = sorted((tmp_path / "ours").glob("*.safetensors"))
    assert len(files) > 1
    merged = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert merged.keys() == slow.keys()
    for name, tensor in merged.items():
        assert tensor.dtype == torch.bfloat16
        torch.testing.assert_close(tensor.float(), slow[name].float(), rtol=2**-7, atol=1e-6)
    TransformersModel(tmp_path / "ours", "cpu", "float32")  # the index fits


def test_a_loop_is_counted_from_pass_to_pass() -> None:
    passes = [
        ((8, 36), 0.0, 5.0),  # a prompt
        ((8, 1), 6.0, 7.0),
        ((8, 1), 7.5, 8.0),
        ((8, 1), 9.0, 10.0),
        ((4, 1), 11.0, 20.0),  # some rows have ended
        ((8, 1), 21.0, 22.0),
    ]
    assert _longest_loop(passes) == (3.0, 1.5, 2)
    with pytest.raises(RunError, match="never decoded together"):
        _longest_loop(passes[3:5])


# --- what is measured -------------------------------------------------------------------------------------------------


def test_prompts_are_ordinary_tokens_and_drawn_again_by_the_same_key(tiny: CheckpointPair) -> None:
    tokenizer = tiny.instruct.tokenizer()
    prompts = Prompts(tokenizer, 1280)
    first = prompts.mixed(32, FULL, 1)
    assert sorted(map(len, first))[::31] == [16, 128]
    assert first == prompts.mixed(32, FULL, 1) != prompts.mixed(32, FULL, 2)
    ids = {token for prompt in first for token in prompt}
    assert not ids & {*tokenizer.get_added_vocab().values()}
    assert max(ids) < 1280


def test_lambdas_are_distinct_and_none_is_an_end() -> None:
    for count in (1, 8, 32):
        values = spread_lambdas(count)
        assert len({*values}) == count
        assert all(0 < value < 1 for value in values)


@pytest.mark.parametrize(("shape", "parameters"), [("0.6b", 596_049_920), ("4b", 4_022_468_096)])
def test_the_large_shapes_are_qwen3s(shape: str, parameters: int) -> None:
    from transformers import AutoModelForCausalLM, Qwen3Config

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(Qwen3Config(**SHAPES[shape], tie_word_embeddings=True))
    assert model.num_parameters() == parameters


def test_a_random_pair_opens_and_every_id_of_it_has_a_text(tiny: CheckpointPair) -> None:
    assert tiny.name == "random-tiny"
    assert ids_without_text(tiny.instruct.tokenizer(), 1280) == ()
    assert tiny.instruct.tokenizer().get_vocab()["<|im_end|>"] in tiny.eos_token_ids
    ends = [load_file(side.path / "model.safetensors") for side in (tiny.instruct, tiny.thinking)]
    assert not torch.equal(*(tensors["model.embed_tokens.weight"] for tensors in ends))


def test_a_random_pair_is_cut_into_files_that_belong_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(random_pair, "_SHARD", 100_000)
    cut = write_random_pair(tmp_path, "tiny")
    assert len([*cut.instruct.path.glob("*.safetensors")]) > 2
    models = [load_weights(side.path, side.path, mode="merged") for side in (cut.instruct, cut.thinking)]
    with models[0].at([0.0]) as instruct, models[1].at([0.0]) as thinking:
        rows = instruct.get_input_embeddings().weight
        assert len(rows.unique(dim=0)) == 1280, "no two tokens tie"
        for name, parameter in instruct.named_parameters():
            if parameter.dim() > 1:
                assert parameter.std() * parameter.shape[-1] ** 0.5 == pytest.approx(1, abs=0.1), name
                assert (thinking.get_parameter(name) - parameter).std() / parameter.std() == pytest.approx(
                    0.1, abs=0.01
                )


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with computing_on(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"instruct": "a"}, InvalidRequest),
        ({"thinking": "b"}, InvalidRequest),
        ({"shape": "7b"}, UsageError),
        ({"instruct": "a", "thinking": "b", "shape": "tiny"}, UsageError),
    ],
)
def test_plans_that_name_no_pair_are_refused(fields: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        SpeedPlan(**fields)


def test_the_workloads_fit_the_contexts() -> None:
    context = json.loads((CheckpointPair.builtin().instruct.path / "config.json").read_text())
    assert FULL.context <= context["max_position_embeddings"]
    assert QUICK.context <= SHAPES["tiny"]["max_position_embeddings"]
