"""What cannot be interpolated is refused by name and before any weight is read; no foreign code ever runs."""

from __future__ import annotations

import json
import re
import struct

import pytest
from safetensors.torch import load_file, save_file

from dami_agent.checkpoints import CheckpointPair
from dami_agent.errors import CheckpointNotFound, UnsupportedCheckpoint
from dami_agent.weights import load_weights
from tests.pairs import edit_json


def refused(paths, match, hint, kind=UnsupportedCheckpoint):
    with pytest.raises(kind, match=match) as caught:
        CheckpointPair.open(*paths)
    assert re.search(hint, caught.value.hint or ""), caught.value.hint


def poison(paths, side=1):
    """Replace the weights by garbage: whoever reads them fails, so a refusal by name came first."""
    for file in paths[side].glob("*.safetensors"):
        file.write_bytes(b"\xff" * 64)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "FP8"),
        ({"quant_method": "fbgemm_fp8"}, "FP8"),
        ({"quant_method": "awq", "bits": 4}, "AWQ"),
        ({"quant_method": "gptq", "bits": 4}, "GPTQ"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "something-new"}, "'something-new'"),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_quantised_is_refused_by_the_methods_name(copied, config, name, side):
    paths = copied()
    edit_json(paths[side] / "config.json", quantization_config=config)
    poison(paths, side)
    refused(paths, rf"{paths[side].name} is quantised with {name}", "bf16")


@pytest.mark.parametrize(
    "suffix", ["-FP8", "-AWQ", "-GPTQ-Int4", "-bnb-4bit", "-unsloth-bnb-4bit", "-GGUF", "-FP8-dynamic"]
)
def test_the_hint_names_the_likely_source(copied, suffix):
    paths = copied()
    source = paths[0].rename(paths[0].with_name("Qwen3-4B-Instruct-2507" + suffix))
    edit_json(source / "config.json", quantization_config={"quant_method": "x"})
    refused((source, paths[1]), "quantised", r"probably \S*/Qwen3-4B-Instruct-2507$")


@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.qweight", "model.layers.1.mlp.up_proj.weight_scale_inv"])
def test_packed_tensors_are_refused_though_the_config_keeps_silent(copied, name):
    paths = copied()
    file = paths[0] / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {name: next(iter(tensors.values())).clone()}, file)
    refused(paths, re.escape(name), "bf16")


def test_float8_tensors_are_refused_though_the_config_keeps_silent(copied):
    paths = copied()
    header = json.dumps({"lm_head.weight": {"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [0, 4]}}).encode()
    (paths[1] / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    refused(paths, r"lm_head\.weight \(F8_E4M3\[2, 2\]", "bf16")


class TestOtherFormats:
    def strip(self, paths, **files):
        for file in paths[0].glob("*.safetensors"):
            file.unlink()
        for name, data in files.items():
            (paths[0] / name.replace("__", ".")).write_bytes(data)

    def test_gguf_folder(self, copied):
        paths = copied()
        self.strip(paths, qwen3__gguf=b"GGUF")
        refused(paths, "GGUF", "safetensors")

    def test_gguf_file(self, copied):
        paths = copied()
        file = paths[0] / "Qwen3-4B-Q4_K_M.gguf"
        file.write_bytes(b"GGUF")
        refused((file, paths[1]), "GGUF", "safetensors")

    @pytest.mark.parametrize("name", ["pytorch_model__bin", "model__pt", "consolidated__00__pth"])
    def test_pickles_are_not_opened(self, copied, name):
        paths = copied()
        # A pickle that would raise a tell-tale error if anything loaded it.
        self.strip(paths, **{name: b"cbuiltins\nexec\n(Vraise SystemExit('the pickle ran')\ntR."})
        refused(paths, "only safetensors", "save_pretrained")

    def test_adapter(self, copied):
        paths = copied()
        (paths[0] / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        refused(paths, "adapter", "merge_and_unload")

    def test_no_weights_at_all(self, copied):
        paths = copied()
        self.strip(paths)
        refused(paths, "no safetensors", "save_pretrained", CheckpointNotFound)

    def test_a_file_instead_of_a_folder(self, copied):
        paths = copied()
        refused((paths[0] / "model.safetensors", paths[1]), "is a file", "folder")


MALICE = """
from pathlib import Path
Path({flag!r}).write_text("ran")
from transformers import Qwen3Config as MyConfig, Qwen3ForCausalLM as MyModel, Qwen2TokenizerFast as MyTokenizer
"""


def plant(folder, flag):
    """A checkpoint that asks for its own code in every place that transformers looks at."""
    for name in ("configuration_my", "modeling_my", "tokenization_my"):
        (folder / f"{name}.py").write_text(MALICE.format(flag=str(flag)))
    auto_map = {"AutoConfig": "configuration_my.MyConfig", "AutoModelForCausalLM": "modeling_my.MyModel"}
    edit_json(folder / "config.json", auto_map=auto_map)
    tokenizer = {"AutoTokenizer": [None, "tokenization_my.MyTokenizer"]}
    edit_json(folder / "tokenizer_config.json", auto_map=tokenizer)


class TestForeignCode:
    @pytest.mark.filterwarnings("error")
    def test_an_auto_map_runs_nothing_and_the_native_class_is_used(self, copied, tmp_path):
        paths, flag = copied(), tmp_path / "flag"
        for folder in paths:
            plant(folder, flag)
        pair = CheckpointPair.open(*paths)
        assert type(pair.instruct.tokenizer()).__module__.startswith("transformers.")
        weights = load_weights(pair.instruct.path, pair.thinking.path, mode="merged")
        with weights.at([0.5]) as model:
            assert type(model).__name__ == "Qwen3ForCausalLM"
        assert not flag.exists()
        assert any(c.status == "note" and "auto_map" in c.detail for c in pair.checks)

    def test_the_planted_file_would_have_run(self, copied, tmp_path, monkeypatch):
        """The control: with trust_remote_code the same checkpoint does execute its code."""
        from transformers import AutoConfig, Qwen3Config

        # Trusting marks the class the planted code gives back, which is this one, for the rest of the process.
        monkeypatch.setattr(Qwen3Config, "_auto_class", None)
        (folder, _), flag = copied(), tmp_path / "flag"
        plant(folder, flag)
        AutoConfig.from_pretrained(folder, trust_remote_code=True)
        assert flag.exists()

    def test_an_architecture_of_its_own_is_refused(self, copied, tmp_path):
        paths, flag = copied(), tmp_path / "flag"
        plant(paths[0], flag)
        edit_json(paths[0] / "config.json", model_type="my_arch", architectures=["MyForCausalLM"])
        refused(paths, "my_arch.*never run", "trust_remote_code is never on")
        assert not flag.exists()

    def test_a_native_type_with_a_class_of_its_own_is_refused(self, copied, tmp_path):
        paths, flag = copied(), tmp_path / "flag"
        plant(paths[1], flag)
        edit_json(paths[1] / "config.json", architectures=["MyQwen3ForCausalLM"])
        refused(paths, "MyQwen3ForCausalLM", "text-generating")
        assert not flag.exists()

    def test_a_native_model_that_generates_nothing_is_refused(self, copied):
        paths = copied()
        edit_json(paths[0] / "config.json", model_type="bert", architectures=["BertModel"])
        refused(paths, "BertModel", "text-generating")

    def test_no_model_type(self, copied):
        paths = copied()
        edit_json(paths[0] / "config.json", model_type=None)
        refused(paths, "model_type None", "family")
