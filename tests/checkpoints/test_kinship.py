"""Whether two checkpoints come from one base, and are given the right way round: measured, named, refused or warned."""

from __future__ import annotations

import logging
import math
import shutil

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from dami_agent.checkpoints import Checkpoint, CheckpointPair, compare, kinship
from dami_agent.errors import IncompatiblePair
from tests.pairs import INSTRUCT_TEMPLATE, QWEN3_4B, THINKING_TEMPLATE, write_sparse_pair


def opened(paths):
    return [Checkpoint.open(path) for path in paths]


def check(inspection, name):
    return next((c for c in inspection.checks if c.name == name), None)


def change(folder, function):
    """Rewrite every tensor of a checkpoint in one file."""
    file = folder / "model.safetensors"
    save_file({k: function(v).contiguous() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("shards", [1, 3])
def test_the_sample_of_a_small_pair_is_all_of_it(written, dtype, shards):
    """Against the slow, obvious way: all matrices, read by the library."""
    paths = written(dtype=dtype, shards=shards)
    found = kinship.measure(*opened(paths))
    sides = [{k: v for f in sorted(p.glob("*.safetensors")) for k, v in load_file(f).items()} for p in paths]
    pairs = [
        (sides[0][k].double().flatten(), sides[1][k].double().flatten()) for k in sides[0] if sides[0][k].dim() > 1
    ]
    cosines = [float(a @ b / a.norm() / b.norm()) for a, b in pairs]
    difference, size = sum(float((b - a) @ (b - a)) for a, b in pairs), sum(float(a @ a) for a, _ in pairs)
    assert found.tensors == len(pairs)
    assert found.cosine == pytest.approx(float(numpy.median(cosines)), abs=1e-12)
    assert found.distance == pytest.approx(math.sqrt(difference / size), abs=1e-12)
    assert found.verdict == "related"


def test_a_large_checkpoint_is_read_in_slices(tmp_path):
    paths = write_sparse_pair(tmp_path, shards=3, **QWEN3_4B)
    found = kinship.measure(*opened(paths))
    assert found.tensors == kinship.TENSORS
    assert found.nbytes <= 2 * kinship.TENSORS * (kinship.SLICES + 1) * kinship.SLICE_BYTES  # of 16 GB
    assert found.equal  # its weights are all zero


def test_the_builtin_pair_is_related():
    pair = CheckpointPair.builtin()
    assert kinship.measure(pair.instruct, pair.thinking).verdict == "related"
    assert check(pair, "kinship").status == "ok"
    assert check(pair, "roles") is None


class TestUnrelated:
    def test_two_random_models_are_refused_by_name_and_both_ways_say_how_to_force_it(self, written):
        paths = written(seed=1)[0], written(seed=2)[1]
        with pytest.raises(IncompatiblePair, match=r"kinship: instruct=unrelated models: cosine -?0\.0\d") as caught:
            CheckpointPair.open(*paths)
        assert "DAMI_ALLOW_UNRELATED=1" in str(caught.value)
        assert check(compare(*opened(paths)), "kinship").status == "mismatch"

    @pytest.mark.parametrize("how", ["argument", "environment"])
    def test_forced_with_a_warning(self, written, monkeypatch, caplog, how):
        paths = written(seed=1)[0], written(seed=2)[1]
        if how == "environment":
            monkeypatch.setenv("DAMI_ALLOW_UNRELATED", "1")
        pair = CheckpointPair.open(*paths, allow_unrelated=True if how == "argument" else None)
        assert check(pair, "kinship").status == "warning"
        assert "unrelated" in caplog.text

    def test_an_argument_goes_before_the_environment(self, written, monkeypatch):
        monkeypatch.setenv("DAMI_ALLOW_UNRELATED", "1")
        with pytest.raises(IncompatiblePair):
            CheckpointPair.open(written(seed=1)[0], written(seed=2)[1], allow_unrelated=False)

    @pytest.mark.parametrize(
        "function",
        [
            lambda v: v[torch.randperm(len(v), generator=torch.Generator().manual_seed(0))] if v.dim() > 1 else v,
            lambda v: -v,
            lambda v: torch.zeros_like(v),
        ],
        ids=["rows permuted", "signs turned", "all zero"],
    )
    def test_what_only_looks_alike(self, copied, function):
        paths = copied()
        change(paths[1], function)
        with pytest.raises(IncompatiblePair, match="unrelated"):
            CheckpointPair.open(*paths)

    @pytest.mark.parametrize(
        ("noise", "verdict"), [(0.01, "related"), (0.5, "related"), (1.5, "far"), (30.0, "unrelated")]
    )
    def test_how_much_training_may_change(self, copied, noise, verdict):
        """Noise of this size relative to the weights: a fine-tuning's is near 0.02, of heavy training 0.5."""
        paths = copied(dtype="float32")
        shutil.copy(paths[0] / "model.safetensors", paths[1] / "model.safetensors")
        generator = torch.Generator().manual_seed(3)
        change(
            paths[1], lambda v: v + noise * v.std() * torch.randn(v.shape, generator=generator) if v.dim() > 1 else v
        )
        assert kinship.measure(*opened(paths)).verdict == verdict

    def test_some_layers_trained_anew_are_no_other_model(self, copied):
        paths = copied(layers=3)
        fresh = iter(range(100))

        def anew(v):
            return torch.randn(v.shape, generator=torch.Generator().manual_seed(next(fresh))).to(v.dtype)

        file = paths[1] / "model.safetensors"
        save_file(
            {k: anew(v) if ".0.mlp" in k else v for k, v in load_file(file).items()}, file, metadata={"format": "pt"}
        )
        assert kinship.measure(*opened(paths)).verdict == "related"


class TestEqual:
    def test_one_folder_twice(self, written, caplog):
        folder = written()[0]
        pair = CheckpointPair.open(folder, folder)
        assert check(pair, "kinship").status == "warning"
        assert "one folder is given twice" in caplog.text

    def test_a_copy_with_another_template(self, copied, caplog):
        paths = copied()
        shutil.copy(paths[0] / "model.safetensors", paths[1] / "model.safetensors")
        CheckpointPair.open(*paths)
        assert "hold the same weights" in caplog.text

    def test_one_weight_of_a_small_model_is_enough_not_to_be(self, copied):
        paths = copied()
        shutil.copy(paths[0] / "model.safetensors", paths[1] / "model.safetensors")
        change(paths[1], lambda v: v.index_fill(0, torch.tensor([0]), 0.125) if v.dim() > 1 else v)
        found = kinship.measure(*opened(paths))
        assert not found.equal
        assert found.verdict == "related"


class TestRoles:
    def warned(self, pair):
        return (found := check(pair, "roles")) is not None and found.status == "warning"

    def test_by_the_templates(self, written, caplog):
        assert not self.warned(CheckpointPair.open(*written()))
        assert caplog.text == ""
        assert self.warned(CheckpointPair.open(*reversed(written())))
        assert "look swapped: the chat template of" in caplog.text

    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            ("Qwen3-4B-Instruct-2507", "Qwen3-4B-Thinking-2507", False),
            ("Qwen3-4B-Thinking-2507", "Qwen3-4B-Instruct-2507", True),
            ("my-reasoner", "my-chat", True),
            ("Qwen2.5-7B-Instruct", "DeepSeek-R1-Distill-Qwen-7B", False),
            ("DeepSeek-R1-Distill-Qwen-7B", "Qwen2.5-7B-Instruct", True),
            ("base", "base-Instruct", True),
            ("a", "b", False),
            ("Thinking-Instruct", "Thinking", False),
        ],
    )
    def test_by_the_names_where_the_templates_do_not_tell(self, copied, first, second, expected):
        paths = [path.rename(path.with_name(name)) for path, name in zip(copied(), (first, second), strict=True)]
        shutil.copy(paths[0] / "chat_template.jinja", paths[1] / "chat_template.jinja")
        assert self.warned(CheckpointPair.open(*paths)) is expected

    def test_templates_go_before_names(self, copied):
        paths = [p.rename(p.with_name(n)) for p, n in zip(copied(), ("x-thinking", "x-instruct"), strict=True)]
        assert not self.warned(CheckpointPair.open(*paths))

    @pytest.mark.parametrize(
        ("template", "opens"),
        [
            (INSTRUCT_TEMPLATE, False),
            (THINKING_TEMPLATE, True),
            (
                "{% if add_generation_prompt %}<think>\n\n</think>\n\n{% endif %}",
                False,
            ),  # a hybrid's, told not to think
            ("{{ '<think>' }}", False),
            (None, False),
        ],
    )
    def test_what_opens_a_thought(self, template, opens):
        assert kinship.opens_thought(template) is opens

    def test_a_warning_is_one_line_of_the_log(self, written, caplog):
        with caplog.at_level(logging.WARNING):
            CheckpointPair.open(*reversed(written()))
        assert len(caplog.records) == 1
