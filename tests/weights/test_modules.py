"""Merged weights at a λ per module, against plain transformers models whose parameters a slow loop sets one by one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from dami_agent.errors import InvalidIntensity, UsageError
from dami_agent.types import Intensity
from dami_agent.weights import load_weights
from dami_agent.weights.merged import MergedWeights
from dami_agent.weights.modules import Place, place_of
from tests.chance import SEED
from tests.pairs import write_pair
from tests.weights.reference import load_per_module, random_batch, tensors_of

LAYERS = 3
MODELS = [("qwen3", True), ("qwen3", False), ("qwen2", True), ("llama", False), ("qwen3_moe", False), ("gpt2", True)]


def random_values(rng: random.Random) -> tuple[Intensity, dict[tuple[str, int | None], float]]:
    """A random λ per module, and what it says of every kind and layer."""
    draw = {kind: rng.choice([0.0, 1.0, rng.random()]) for kind in ("attention", "embedding", "ffn", "norm", "other")}
    early = {kind: rng.random() for kind in ("attention", "ffn", "norm")}  # in the first layers
    last = rng.randrange(LAYERS)
    parts = [f"{kind}={value!r}" for kind, value in draw.items()]
    parts += [f"{kind}[0-{last}]={value!r}" for kind, value in early.items()]
    rng.shuffle(parts)
    values = {(kind, layer): value for kind, value in draw.items() for layer in (None, *range(LAYERS))}
    values |= {(kind, layer): value for kind, value in early.items() for layer in range(last + 1)}
    return Intensity(",".join(parts)), values


@pytest.mark.parametrize(("arch", "tie"), MODELS)
def test_equals_a_transformers_model_set_parameter_by_parameter(tmp_path: Path, arch: str, tie: bool) -> None:
    rng = random.Random(SEED)
    paths = write_pair(tmp_path, arch=arch, seed=SEED, dtype="float32", layers=LAYERS, tie=tie)
    weights = load_weights(*paths, mode="merged")
    batch = random_batch(320, [7, 3], torch.Generator().manual_seed(SEED))
    for _ in range(3):
        intensity, values = random_values(rng)
        reference = load_per_module(*paths, values)
        with weights.at([intensity, intensity]) as model, torch.no_grad():
            assert weights.intensity == intensity
            expected, got = tensors_of(reference), tensors_of(model)
            assert expected.keys() == got.keys()
            for name in expected:
                torch.testing.assert_close(got[name], expected[name], rtol=1e-5, atol=1e-6, msg=name)
            logits = model(**batch).logits
            torch.testing.assert_close(logits, reference(**batch).logits, rtol=0, atol=1e-4)
            if tie:
                assert model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
        with weights.at([float(intensity)]) as model, torch.no_grad():  # the same number for all modules
            plain = model(**{name: tensor[:1] for name, tensor in batch.items()}).logits
        assert (plain - logits[:1]).abs().max() > 1e-2, "a λ per module ran as its number"


def test_switches_rebuild_in_place_from_both_ends(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    paths = write_pair(tmp_path, seed=SEED, dtype="bfloat16", layers=LAYERS)
    weights = load_weights(*paths, mode="merged", dtype="bfloat16")
    assert isinstance(weights, MergedWeights)
    ends = [(slot.instruct.clone(), slot.thinking.clone()) for slot in weights.slots]
    drawn = [random_values(rng)[0] for _ in range(3)]
    with weights.at([Intensity(0.5)]):
        working = [slot.working.data_ptr() for slot in weights.slots if slot.working is not None]
    for _ in range(300):
        with weights.at([rng.choice([*drawn, Intensity(0.5), Intensity(0), Intensity(1)])]):
            pass
    assert [slot.working.data_ptr() for slot in weights.slots if slot.working is not None] == working
    for intensity in (*drawn, Intensity(0.5)):
        with weights.at([intensity]) as model:
            worn = tensors_of(model)
        with load_weights(*paths, mode="merged", dtype="bfloat16").at([intensity]) as model:
            fresh = tensors_of(model)
        assert all(torch.equal(worn[name], fresh[name]) for name in fresh)
    for slot, (instruct, thinking) in zip(weights.slots, ends, strict=True):
        assert torch.equal(slot.instruct, instruct)
        assert torch.equal(slot.thinking, thinking)


def test_equal_numbers_are_different_weights(tmp_path: Path) -> None:
    weights = load_weights(*write_pair(tmp_path, seed=SEED, dtype="float32"), mode="merged")
    found = []
    for intensity in (Intensity("ffn=.9,other=.1"), Intensity("attention=.9,other=.1"), Intensity(0.9)):
        version = weights.version
        with weights.at([intensity]) as model:
            found.append(tensors_of(model)["model.layers.0.mlp.up_proj.weight"])
        assert weights.version == version + 1, "the weights of another λ were lent"
        with weights.at([Intensity(intensity.modules or float(intensity))]):
            assert weights.version == version + 1, "equal λs are one state of the weights"
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    with (
        pytest.raises(UsageError, match=r"ffn=0\.9,other=0\.1"),
        weights.at([Intensity("ffn=.9,other=.1"), Intensity("attention=.9,other=.1")]),
    ):
        pass


def test_ends_alone_need_no_working_copy(tmp_path: Path) -> None:
    weights = load_weights(*write_pair(tmp_path, seed=SEED, dtype="float32"), mode="merged")
    with weights.at([Intensity("ffn[0]=1,norm=1,other=0")]):
        assert weights.nbytes()["working"] == 0
    with weights.at([Intensity("ffn[0]=1,norm=.5,other=0")]):
        assert weights.nbytes()["working"] > 0


def test_mixed_weights_refuse_it_and_say_what_runs_it(tmp_path: Path) -> None:
    weights = load_weights(*write_pair(tmp_path, seed=SEED, dtype="float32"), mode="mixed")
    with pytest.raises(InvalidIntensity) as refused, weights.at([0.5, Intensity("ffn=.9,other=.1")]):
        pass
    assert "mixed weights" in refused.value.message
    assert 'weights_mode="merged"' in str(refused.value.hint)
    with weights.at([0.5, 0.9]):
        pass


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.layers.11.self_attn.q_proj.bias", Place("attention", 11)),
        ("model.layers.0.self_attn.q_norm.weight", Place("norm", 0)),
        ("model.layers.0.post_attention_layernorm.weight", Place("norm", 0)),
        ("model.layers.3.linear_attn.in_proj.weight", Place("attention", 3)),
        ("model.layers.3.mlp.gate.weight", Place("ffn", 3)),
        ("model.layers.3.block_sparse_moe.experts.5.w1.weight", Place("ffn", 3)),
        ("model.decoder.layers.2.self_attn_layer_norm.bias", Place("norm", 2)),
        ("model.decoder.layers.2.fc1.weight", Place("ffn", 2)),
        ("transformer.h.1.ln_1.weight", Place("norm", 1)),
        ("transformer.ln_f.bias", Place("norm", None)),
        ("transformer.wte.weight", Place("embedding", None)),
        ("transformer.word_embeddings.weight", Place("embedding", None)),
        ("transformer.word_embeddings_layernorm.weight", Place("norm", None)),
        ("gpt_neox.layers.0.attention.dense.weight", Place("attention", 0)),
        ("model.norm.weight", Place("norm", None)),
        ("lm_head.weight", Place("embedding", None)),
        ("model.layers.4.something_new.weight", Place("other", 4)),
        ("model.projector.weight", Place("other", None)),
    ],
)
def test_names_tell_kind_and_layer(name: str, place: Place) -> None:
    assert place_of([name]) == place


def test_a_tied_tensor_has_one_place() -> None:
    assert place_of(["model.embed_tokens.weight", "lm_head.weight"]) == Place("embedding", None)
    assert place_of(["model.layers.0.mlp.w.weight", "model.layers.1.mlp.w.weight"]) == Place("other", None)
