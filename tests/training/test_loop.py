"""A short run resumes to the bit; our attention and our sampler agree with transformers."""

from pathlib import Path

import pytest
import torch

import dami_agent
from dami_agent.training import attention, export, loop, recipe, sampler
from dami_agent.training import tokenizer as tokens
from dami_agent.training.evaluate import Bench, auc, on_questions, run_agents

BUILTIN = Path(dami_agent.__file__).parent / "checkpoints" / "builtin"
PLAN = loop.Plan(total=4_000, tokens=512, pool_size=6, warmup=2, seed=4)


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.load(BUILTIN / "base")


def _run(tokenizer, folder, plan=PLAN):
    model = export.fresh(tokenizer, 0)
    loop.train(model, tokenizer, recipe.MIXTURES["base"], plan, folder)
    return model.state_dict()


def test_a_run_that_was_killed_resumes_to_the_same_bits(tokenizer, tmp_path, monkeypatch):
    whole = _run(tokenizer, tmp_path / "whole")
    keep, kept = loop._keep, []

    def kill(*arguments):
        keep(*arguments)
        kept.append(arguments)
        if len(kept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_keep", kill)
    with pytest.raises(KeyboardInterrupt):
        _run(tokenizer, tmp_path / "cut")
    monkeypatch.setattr(loop, "_keep", keep)
    again = _run(tokenizer, tmp_path / "cut")
    assert len((tmp_path / "whole" / "log.jsonl").read_text().splitlines()) > 3
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_training_attention_equals_sdpa(tokenizer):
    model = export.fresh(tokenizer, 1).eval()
    ids = torch.randint(0, 1000, (3, 40))
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        model.config._attn_implementation = attention.register()
        ours = model(input_ids=ids).logits
    torch.testing.assert_close(plain, ours, atol=1e-5, rtol=1e-4)


def test_sampler_equals_transformers(tokenizer):
    model = export.fresh(tokenizer, 2).eval()
    state = dict(model.state_dict())
    prompts = [[1, 2, 3, 400], [7, 8], [5] * 20]
    found = sampler.sample(state, prompts, stops=[993], limit=8, temperature=0)
    for prompt, each in zip(prompts, found, strict=False):
        ids = torch.tensor([prompt])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        assert each.ids == expected[0, len(prompt) :].tolist()[: len(each.ids)]
        assert sampler.score(state, [prompt], [each.ids])[0] == pytest.approx(each.logprobs, abs=1e-4)


def test_lerp_of_a_state_with_itself_is_itself(tokenizer):
    state = dict(export.fresh(tokenizer, 3).state_dict())
    assert all(torch.equal(state[name], value) for name, value in sampler.lerp(state, state, 0.3).items())


def test_evaluation_runs_on_an_untrained_model(tokenizer):
    from dami_agent.tasks import agent_tasks, questions

    bench, state = Bench(tokenizer, limit=12), dict(export.fresh(tokenizer, 0).state_dict())
    row = on_questions(bench, state, "thinking", questions("test", 6))
    assert row["accuracy"] == 0
    pick = {"state": state, "template": "thinking", "probe": state, "scorer": state, "threshold": -1.0}
    assert run_agents(bench, pick, agent_tasks("test", 4), most=2)["solved"] == 0


def test_auc():
    assert auc([0.9, 0.8, 0.1], [True, True, False]) == 1
    assert auc([0.5, 0.5], [True, False]) == 0.5


def test_recipe_mixtures_hold_the_replay():
    for role in ("instruct", "thinking"):
        own = recipe.MIXTURES[role]
        base = sum(part.weight for part in own[-len(recipe.MIXTURES["more"]) :])
        assert base / sum(part.weight for part in own) == pytest.approx(0.12)
