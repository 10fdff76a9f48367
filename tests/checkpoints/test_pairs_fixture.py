import pytest

from tests.pairs import write_pair


@pytest.mark.parametrize("arch", ["qwen3", "qwen2", "llama", "gpt2", "qwen3_moe"])
def test_a_written_pair_loads_and_differs(tmp_path, arch):
    from transformers import AutoModelForCausalLM

    models = []
    for path in write_pair(tmp_path, arch=arch, seed=3, shards=2):
        model, info = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
        assert not any(info.values())
        models.append(model)
    for (name, a), (_, b) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        assert not a.equal(b), name
