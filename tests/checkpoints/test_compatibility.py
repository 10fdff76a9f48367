"""Two checkpoints that do not fit are refused in one error that lists all of it; harmless differences are not."""

from __future__ import annotations

import ast
import json
import re
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from dami_agent.checkpoints import Checkpoint, CheckpointPair, compare, tokenizer_comparison
from dami_agent.errors import CheckpointError, IncompatiblePair
from tests.pairs import edit_json, write_pair, write_tokenizer


def mismatches(paths):
    """All mismatches; and the same from the raised error, each with a file, a field, both values and a remedy."""
    sides = [Checkpoint.open(p) for p in paths]
    inspection = compare(*sides)
    found = inspection.mismatches
    if not found:
        CheckpointPair.of(*sides, inspection=inspection)
        return {}
    with pytest.raises(IncompatiblePair) as caught:
        CheckpointPair.of(*sides, inspection=inspection)
    assert caught.value.mismatches == found
    for m in found:
        assert all((m.file, m.field, m.remedy))
        assert m.instruct != m.thinking or m.file == "safetensors" or m.field == "vocab_size"
        assert str(m) in str(caught.value)
    return {m.field: m for m in found}


def rewrite(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


CHANGES = {
    "rms_norm_eps": 1e-5,
    "hidden_act": "gelu",
    "rope_parameters": {"rope_type": "default", "rope_theta": 12345.0},
    "use_sliding_window": True,
    "attention_bias": True,
}


class TestConfig:
    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(keys=st.sets(st.sampled_from(sorted(CHANGES)), min_size=1))
    def test_every_field_that_changes_the_computation_is_listed(self, written, tmp_path_factory, keys):
        folder = tmp_path_factory.mktemp("config")
        paths = [shutil.copytree(p, folder / p.name) for p in written()]
        edit_json(paths[1] / "config.json", **{k: CHANGES[k] for k in keys})
        found = {field.split(".")[0] for field in mismatches(paths)}
        assert keys <= found

    def test_an_unknown_field_counts(self, copied):
        paths = copied()
        edit_json(paths[0] / "config.json", attention_logit_softcap=30.0)
        found = mismatches(paths)
        assert found["attention_logit_softcap"].instruct == "30.0"
        assert found["attention_logit_softcap"].thinking == "None"

    def test_fields_that_do_no_harm(self, copied):
        paths = copied()
        inert = {"_name_or_path": "x", "transformers_version": "4.51.0", "use_cache": False, "initializer_range": 0.5}
        inert |= {"attention_dropout": 0.3, "max_window_layers": 1, "bos_token_id": 3, "torch_dtype": "float16"}
        edit_json(paths[1] / "config.json", **inert)
        assert mismatches(paths) == {}

    def test_a_field_left_out_equals_its_default(self, copied):
        paths = copied()
        edit_json(paths[0] / "config.json", attention_bias=None, hidden_act=None, use_sliding_window=None)
        assert mismatches(paths) == {}

    def test_the_notation_of_public_checkpoints_equals_todays(self, copied):
        """Qwen3-2507 says rope_theta, rope_scaling, torch_dtype; transformers 5 writes rope_parameters, dtype."""
        paths = copied(rope_parameters={"rope_type": "default", "rope_theta": 5_000_000.0})
        old = {"rope_theta": 5_000_000, "rope_scaling": None, "torch_dtype": "bfloat16", "max_window_layers": 2}
        edit_json(paths[0] / "config.json", rope_parameters=None, dtype=None, layer_types=None, **old)
        assert mismatches(paths) == {}
        edit_json(paths[0] / "config.json", rope_theta=1_000_000)
        assert mismatches(paths).keys() == {"rope_parameters.rope_theta"}

    def test_context_lengths_may_differ_where_positions_are_computed_alike(self, copied):
        paths = copied()
        edit_json(paths[1] / "config.json", max_position_embeddings=300)
        assert mismatches(paths) == {}
        pair = CheckpointPair.open(*paths)
        assert pair.context_length == 300
        assert pair.model_config().max_position_embeddings == 300
        assert any(c.name == "context" and c.status == "note" and "300" in c.detail for c in pair.checks)

    def test_context_lengths_may_not_differ_where_positions_depend_on_them(self, copied):
        paths = copied()
        rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
        for path in paths:
            edit_json(path / "config.json", rope_parameters=rope)
        edit_json(paths[1] / "config.json", max_position_embeddings=300)
        assert "max_position_embeddings" in mismatches(paths)

    def test_learned_positions_are_parameters(self, tmp_path):
        a = write_pair(tmp_path / "a", arch="gpt2", context=64)
        b = write_pair(tmp_path / "b", arch="gpt2", context=96)
        found = mismatches((a[0], b[1]))
        assert {"n_positions", "transformer.wpe.weight"} <= found.keys()

    def test_an_invalid_config_is_named(self, copied):
        paths = copied()
        edit_json(paths[1] / "config.json", hidden_size="many")
        with pytest.raises(CheckpointError, match=r"thinking: config\.json is not valid"):
            CheckpointPair.open(*paths)


class TestParameters:
    def test_two_architectures_differ_in_all_they_differ_in(self, written):
        found = mismatches((written(arch="qwen3")[0], written(arch="llama", tie=False)[1]))
        assert found["model_type"].instruct == "qwen3"
        assert found["model_type"].thinking == "llama"
        assert found["lm_head.weight"].instruct == "absent"
        assert found["model.layers.*.self_attn.q_norm.weight (2 tensors)"].thinking == "absent"
        assert "ties" in found

    def test_sizes(self, written):
        found = mismatches((written(hidden=32, layers=2)[0], written(hidden=64, layers=3)[1]))
        assert {"hidden_size", "intermediate_size", "num_hidden_layers"} <= found.keys()
        assert found["model.norm.weight"].instruct == "[32]"
        assert found["model.norm.weight"].thinking == "[64]"

    @pytest.mark.parametrize("side", [0, 1])
    @pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.self_attn.k_norm.weight"])
    def test_a_missing_tensor(self, copied, side, name):
        paths = copied()
        rewrite(paths[side], lambda tensors: tensors.pop(name))
        found = mismatches(paths)[name]
        assert (found.instruct, found.thinking) == (("missing", "there"), ("there", "missing"))[side]

    def test_an_untied_head_that_is_missing(self, copied):
        paths = copied(tie=False)
        rewrite(paths[1], lambda tensors: tensors.pop("lm_head.weight"))
        assert mismatches(paths)["lm_head.weight"].thinking == "missing"

    def test_a_tied_head_may_be_stored_too(self, copied):
        paths = copied(tie=True)
        rewrite(paths[0], lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
        assert mismatches(paths) == {}
        assert any(c.name == "ties" and c.status == "note" for c in CheckpointPair.open(*paths).checks)

    def test_a_tied_head_stored_with_other_values(self, copied):
        paths = copied(tie=True)
        rewrite(paths[1], lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] * 1.01}))
        found = mismatches(paths)["lm_head.weight"]
        assert found.instruct == "tied to model.embed_tokens.weight"
        assert "other values" in found.thinking

    def test_one_tied_one_not(self, written):
        found = mismatches((written(tie=True)[0], written(tie=False)[1]))
        assert {"tie_word_embeddings", "ties", "lm_head.weight"} <= found.keys()

    def test_an_unexpected_tensor(self, copied):
        paths = copied()
        rewrite(paths[1], lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(64)}))
        assert mismatches(paths)["model.layers.0.self_attn.q_proj.bias"].thinking == "unexpected"

    def test_a_wrong_shape(self, copied):
        paths = copied()
        rewrite(paths[0], lambda t: t.update({"model.norm.weight": torch.zeros(31, dtype=torch.bfloat16)}))
        found = mismatches(paths)["model.norm.weight"]
        assert (found.instruct, found.thinking) == ("[31] for a module of [32]", "fits")

    def test_a_missing_expert(self, copied):
        """transformers fuses the experts of a layer: what lacks one does not load at all."""
        paths = copied(arch="qwen3_moe")
        rewrite(paths[1], lambda t: t.pop("model.layers.0.mlp.experts.1.up_proj.weight"))
        assert mismatches(paths)

    def test_fused_and_unfused_files_of_one_module_fit(self, written, tmp_path):
        """Compared in the loaded module's layout: one file may hold the experts fused, as the module does."""
        instruct, thinking = (shutil.copytree(p, tmp_path / p.name) for p in written(arch="qwen3_moe"))

        def fuse(tensors):
            for layer in range(2):
                at = f"model.layers.{layer}.mlp.experts"
                parts = [[tensors.pop(f"{at}.{e}.{n}_proj.weight") for n in ("gate", "up", "down")] for e in range(4)]
                tensors[f"{at}.gate_up_proj"] = torch.stack([torch.cat([gate, up]) for gate, up, _ in parts])
                tensors[f"{at}.down_proj"] = torch.stack([down for _, _, down in parts])

        rewrite(thinking, fuse)
        assert mismatches((instruct, thinking)) == {}

    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_dtypes(self, written, dtype):
        found = mismatches((written()[0], written(dtype=dtype)[1]))
        stored = {"float32": "F32", "float16": "F16"}[dtype]
        assert {m.thinking for m in found.values()} == {stored}
        assert any("model.layers.*.mlp.up_proj.weight" in field for field in found)


BYTES = {"add_prefix_space": True, "trim_offsets": True, "use_regex": True}
SAVED_AGAIN = {
    "post_processor": {"post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}},
    "post_processor with tokens": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<think>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<think>": {"id": "<think>", "ids": [318], "tokens": ["<think>"]}},
        }
    },
    "decoder": {"decoder": {"type": "ByteLevel"} | dict.fromkeys(BYTES, False)},
    "ignore_merges": {"model": {"ignore_merges": True}},
    "truncation": {"truncation": {"max_length": 3, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}},
    "padding": {
        "padding": {
            "strategy": {"Fixed": 9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "!",
        }
    },
    "a sequence of one decoder": {"decoder": {"type": "Sequence", "decoders": [{"type": "ByteLevel", **BYTES}]}},
}
REALLY_OTHER = {
    "ignore_merges": (lambda d: d["model"].update(ignore_merges=True, merges=[]), "model.merges"),
    "byte_fallback and a dropped merge": (lambda d: d["model"]["merges"].pop(3), "model.merges"),
    "digits together": (
        lambda d: d["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex=r"\p{L}+|\p{N}+|\s+"),
        "pre_tokenizer",
    ),
    "a prefix space": (
        lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
        "pre_tokenizer",
    ),
    "lower case": (lambda d: d.update(normalizer={"type": "Lowercase"}), "normalizer"),
    "stripped": (
        lambda d: d.update(normalizer={"type": "Strip", "strip_left": True, "strip_right": True}),
        "normalizer",
    ),
    "composed": (lambda d: d.update(normalizer={"type": "NFKC"}), "normalizer"),
    "a decoder that strips": (
        lambda d: d.update(
            decoder={
                "type": "Sequence",
                "decoders": [{"type": "ByteLevel", **BYTES}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}],
            }
        ),
        "decoder",
    ),
    "a token that takes spaces": (lambda d: d["added_tokens"][4].update(lstrip=True), "added_tokens"),
}


class TestVocabulary:
    def change(self, folder, change):
        data = json.loads((folder / "tokenizer.json").read_text())
        change(data)
        (folder / "tokenizer.json").write_text(json.dumps(data))

    def test_another_layout_of_the_same_file_is_equal(self, copied):
        paths = copied()
        self.change(paths[0], lambda data: None)
        assert mismatches(paths) == {}

    def test_merges_in_the_older_notation_are_equal(self, copied):
        paths = copied()
        self.change(paths[0], lambda d: d["model"].update(merges=[" ".join(m) for m in d["model"]["merges"]]))
        assert mismatches(paths) == {}

    def test_two_tokens_swapped(self, copied):
        paths = copied()

        def swap(data):
            vocab = data["model"]["vocab"]
            vocab["A"], vocab["B"] = vocab["B"], vocab["A"]

        self.change(paths[1], swap)
        (found,) = mismatches(paths).values()
        assert found.file == "tokenizer.json"
        assert "'A', 'B'" in found.field
        assert found.field.startswith("2 of ")

    def test_a_special_token_with_another_id_and_another_flag(self, copied):
        paths = copied()

        def move(data):
            tokens = {t["content"]: t for t in data["added_tokens"]}
            a, b = tokens["<think>"], tokens["</think>"]
            a["id"], b["id"] = b["id"], a["id"]
            tokens["<tool_call>"]["special"] = True

        self.change(paths[1], move)
        found = mismatches(paths)
        assert {f"special token {t!r}" for t in ("<think>", "</think>", "<tool_call>")} <= found.keys()
        assert found["special token '<tool_call>'"].thinking.endswith("(special)")

    @pytest.mark.parametrize("key", ["normalizer", "pre_tokenizer", "decoder"])
    def test_what_else_decides_ids_or_text(self, copied, key):
        paths = copied()
        metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
        value = {"type": "Lowercase"} if key == "normalizer" else metaspace
        self.change(paths[0], lambda data: data.update({key: value}))
        assert mismatches(paths).keys() == {key}

    def test_merges(self, copied):
        paths = copied()
        self.change(paths[0], lambda data: data["model"]["merges"].reverse())
        assert mismatches(paths).keys() == {"model.merges"}

    def test_saved_again_is_equal(self, copied):
        """As transformers and tokenizers write it: defaults spelt out, a post-processor, other keys for the same."""
        paths = copied()
        AutoTokenizer.from_pretrained(paths[0]).save_pretrained(paths[0])
        Tokenizer.from_file(str(paths[1] / "tokenizer.json")).save(str(paths[1] / "tokenizer.json"))
        assert mismatches(paths) == {}

    @pytest.mark.parametrize("name", SAVED_AGAIN)
    @pytest.mark.parametrize("side", [0, 1])
    def test_what_changes_neither_ids_nor_text_is_a_note(self, copied, name, side):
        paths, changes = copied(), SAVED_AGAIN[name]

        def change(data):
            for key, value in changes.items():  # type: ignore[attr-defined]
                data[key] = {**data["model"], **value} if key == "model" else value

        self.change(paths[side], change)
        assert mismatches(paths) == {}
        notes = [c.detail for c in CheckpointPair.open(*paths).checks if (c.name, c.status) == ("vocabulary", "note")]
        fields = [key if key != "model" else "ignore_merges" for key in changes if key not in ("truncation", "padding")]  # type: ignore[attr-defined]
        assert len(notes) == len(fields)
        assert all(field in note for field, note in zip(fields, notes, strict=True))

    @pytest.mark.parametrize("name", REALLY_OTHER)
    def test_what_changes_ids_or_text_is_refused_with_an_example(self, copied, name):
        paths, (change, field) = copied(), REALLY_OTHER[name]
        self.change(paths[1], change)
        found = mismatches(paths)[field]
        example = re.search(r"\(('.*'|\".*\"): ids (\[.*)\)$", found.instruct, re.DOTALL)
        if field == "decoder":  # equal ids, other text
            assert re.search(r"\(ids \[.*: '", found.instruct)
            return
        assert example, found.instruct
        text = ast.literal_eval(example[1])
        left, right = (Tokenizer.from_file(str(p / "tokenizer.json")).encode(text).ids for p in paths)
        assert left != right
        for ids, shown in ((left, example[2]), (right, found.thinking.rpartition(": ids ")[2])):
            assert ", ".join(re.findall(r"\d+", shown)) in str(ids)
        assert example[2] != found.thinking.rpartition(": ids ")[2][:-1]

    def test_merges_in_another_order_are_refused_though_no_text_tried_shows_it(self, copied, monkeypatch):
        paths = copied()
        monkeypatch.setattr(tokenizer_comparison, "_probes", lambda side: ["a"])
        monkeypatch.setattr(tokenizer_comparison, "_merged", lambda a, b: [])
        self.change(paths[1], lambda data: data["model"]["merges"].reverse())
        assert mismatches(paths).keys() == {"model.merges"}

    @pytest.mark.parametrize("at", [0, 7, -1])
    def test_one_merge_that_lacks_is_shown_by_its_own_token(self, copied, at):
        paths = copied()
        gone = []
        self.change(paths[1], lambda data: gone.append("".join(data["model"]["merges"].pop(at))))
        (found,) = mismatches(paths).values()
        assert f": ids [{Tokenizer.from_file(str(paths[0] / 'tokenizer.json')).token_to_id(gone[0])}]" in found.instruct

    def test_a_token_beyond_the_embedding(self, copied):
        paths = copied()
        for path in paths:
            write_tokenizer(path, vocab=340)
        found = mismatches(paths)["vocab_size"]
        assert "highest token id is 339" in found.remedy


def test_everything_at_once_in_one_error(copied):
    paths = copied()
    edit_json(paths[1] / "config.json", rms_norm_eps=1e-4, rope_parameters={"rope_type": "default", "rope_theta": 7.0})
    rewrite(paths[0], lambda tensors: tensors.pop("model.norm.weight"))
    write_tokenizer(paths[1], vocab=300)
    found = mismatches(paths)
    assert {"rms_norm_eps", "rope_parameters.rope_theta", "model.norm.weight", "model.merges"} <= found.keys()
