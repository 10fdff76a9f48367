"""A short run resumes to the bit, in one process or several; attention agrees with transformers."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
import torch

import builtin_pair
from builtin_pair.training import (
    attention,
    command,
    data,
    export,
    loop,
    mixtures,
    muon,
    parallel,
    recipe,
    stages,
)
from builtin_pair.training import tokenizer as tokens
from dami_agent.errors import UsageError

BASE = Path(builtin_pair.__file__).parent / "base"
CONFIG = loop.TrainingConfig(total=4_000, tokens=512, pool_size=6, warmup=2, seed=4)


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.load(BASE)


def _run(tokenizer, folder, config=CONFIG, device="cpu"):
    model = export.fresh(tokenizer, 0).to(device)
    loop.train(loop.TrainingRun(model, tokenizer, recipe.mixture("base"), config, folder))
    return model.state_dict()


def _in_a_group(folder, group):
    tokenizer = tokens.load(BASE)
    model = export.fresh(tokenizer, 0)
    loop.train(loop.TrainingRun(model, tokenizer, recipe.mixture("base"), CONFIG, folder, group=group))
    if group.rank == 0:
        torch.save(dict(model.state_dict()), folder / "end.pt")


def test_two_processes_train_as_one_that_sees_both_batches(tokenizer, tmp_path):
    parallel.launch(2, tmp_path / "rendezvous", partial(_in_a_group, tmp_path / "two"))
    found = torch.load(tmp_path / "two" / "end.pt", weights_only=True)
    model = export.fresh(tokenizer, 0).train()
    model.set_attn_implementation(attention.register())
    runs = [
        loop.TrainingRun(model, tokenizer, recipe.mixture("base"), CONFIG, tmp_path, group=parallel.Group(rank, 2))
        for rank in (0, 1)
    ]
    optimizer, step, seen = loop.Optimizer(model, CONFIG), 0, 0
    while seen < CONFIG.total:
        progress = seen / CONFIG.total
        number = runs[0].position["pool"]
        drawn = [data.grouped(_drawn(run, number), tokens=CONFIG.tokens) for run in runs]
        count = min(map(len, drawn))
        order = list(range(count))
        Random(f"order:{CONFIG.seed}:{runs[0].position['pool']}").shuffle(order)
        for index in order:
            for mine in drawn:
                (batch,) = data.packed([mine[index * len(mine) // count]]).batches()
                with loop.autocast("cpu"):
                    (loop.loss_of(model, batch) / 2).backward()
                if mine is drawn[0]:
                    seen += 2 * batch.ids.numel()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step(CONFIG.lr_scale(step, progress))
            step, progress = step + 1, seen / CONFIG.total
            if seen >= CONFIG.total:
                break
        for run in runs:
            run.position["pool"] += 1
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=2e-3, rtol=2e-2, msg=name)


def _drawn(run, number):
    rank = f":{run.group.rank}" if run.group.rank else ""
    seed = f"pool:{CONFIG.seed}:{number}{rank}"
    progress = min(1.0, 2 * number * CONFIG.pool_size * CONFIG.document / CONFIG.total)
    share = CONFIG.share(progress)
    return data.pool(run.tokenizer, run.mixture(progress), seed=seed, size=CONFIG.pool_size, copy_share=share)


def test_a_run_that_was_killed_resumes_to_the_same_bits(tokenizer, tmp_path, monkeypatch):
    whole = _run(tokenizer, tmp_path / "whole")
    keep, kept = loop.save_state, []

    def kill(*arguments):
        keep(*arguments)
        kept.append(arguments)
        if len(kept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", kill)
    with pytest.raises(KeyboardInterrupt):
        _run(tokenizer, tmp_path / "cut")
    monkeypatch.setattr(loop, "save_state", keep)
    again = _run(tokenizer, tmp_path / "cut")
    assert len((tmp_path / "whole" / "log.jsonl").read_text().splitlines()) > 3
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_pools_drawn_ahead_by_other_processes_are_the_same(tokenizer, tmp_path):
    alone = _run(tokenizer, tmp_path / "alone")
    model = export.fresh(tokenizer, 0)
    loop.train(loop.TrainingRun(model, tokenizer, recipe.mixture("base"), CONFIG, tmp_path / "ahead", workers=2))
    assert all(torch.equal(alone[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("shape", [(24, 24), (40, 16), (16, 40)])
def test_stacked_muon_is_muon(shape):
    torch.manual_seed(3)
    ours = [torch.nn.Parameter(torch.randn(shape) * 0.02) for _ in range(3)]
    theirs = [torch.nn.Parameter(each.detach().clone()) for each in ours]
    stacked = muon.StackedMuon(ours, lr=0.02, weight_decay=0.1, momentum=0.95)
    plain = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95)
    for _ in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(shape)
            other.grad = mine.grad.clone()
        stacked.step()
        plain.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=2e-3, rtol=0)  # bf16 iterations over matrices on their side or not


def test_stacked_muon_takes_matrices_only():
    with pytest.raises(ValueError, match="matrices"):
        muon.StackedMuon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)


def test_a_folder_of_a_run_from_other_weights_is_refused_and_left_as_it_was(tokenizer, tmp_path):
    _run(tokenizer, tmp_path)
    before = (tmp_path / "weights.safetensors").read_bytes()
    other = loop.TrainingRun(export.fresh(tokenizer, 1), tokenizer, recipe.mixture("base"), CONFIG, tmp_path)
    with pytest.raises(UsageError, match="began with other weights"):
        loop.train(other)
    assert (tmp_path / "weights.safetensors").read_bytes() == before


@pytest.mark.parametrize("arguments", [["base"], ["finish"], ["tune", "--role", "instruct"], ["self-mistakes"]])
def test_a_stage_without_its_folder_is_refused_before_it_begins(arguments, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main([*arguments, "--pair", str(tmp_path)])
    assert "needs --" in capsys.readouterr().err


def test_a_stage_takes_the_gpu_when_there_is_one_and_one_process(monkeypatch):
    for there, wanted, processes, expected in (
        (False, "auto", 1, "cpu"),
        (True, "auto", 1, "cuda"),
        (True, "auto", 2, "cpu"),
        (True, "cpu", 1, "cpu"),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert stages.device(wanted, processes).type == expected


def test_a_gpu_that_is_not_there_is_refused_before_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        command.main(["base", "--pair", str(tmp_path / "none"), "--device", "cuda"])
    assert "--device cuda needs a GPU" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_as_the_cpu_does_and_its_run_can_be_taken_up_by_either(tokenizer, tmp_path):
    on_cpu, on_gpu = _run(tokenizer, tmp_path / "cpu"), _run(tokenizer, tmp_path / "gpu", device="cuda")
    for name, value in on_cpu.items():
        assert on_gpu[name].device.type == "cuda"
        torch.testing.assert_close(on_gpu[name].cpu(), value, atol=5e-3, rtol=5e-2, msg=name)
    longer = replace(CONFIG, total=2 * CONFIG.total)
    _run(tokenizer, tmp_path / "gpu", longer)
    rows = [json.loads(line) for line in (tmp_path / "gpu" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["tokens"] >= longer.total


def test_training_attention_equals_sdpa(tokenizer):
    model = export.fresh(tokenizer, 1).eval()
    ids = torch.randint(0, 1000, (3, 40))
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        model.set_attn_implementation(attention.register())
        ours = model(input_ids=ids).logits
    torch.testing.assert_close(plain, ours, atol=1e-5, rtol=1e-4)


def test_both_fine_tunings_replay_the_base():
    for stage in ("instruct", "thinking"):
        parts = recipe.mixture(stage)(0.0)
        base = sum(part.weight for part in parts[-len(mixtures.LAST) :])
        assert base / sum(part.weight for part in parts) == pytest.approx(recipe.REPLAY)


def test_the_mixture_moves_from_tools_to_arithmetic():
    def share(parts, family):
        return sum(part.weight for part in parts if part.family == family) / sum(part.weight for part in parts)

    early, middle, late = (recipe.mixture("base")(progress) for progress in (0.0, 0.4, 1.0))
    assert share(early, "novel") > share(middle, "novel") > share(late, "novel") > 0
    assert share(early, "question") < share(middle, "question") < share(late, "question")


def test_rate_rises_stays_and_falls():
    config = loop.TrainingConfig(total=1, warmup=10, decay_start=0.5)
    assert [config.lr_scale(step, 0.0) for step in (0, 4, 9, 50)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert [config.lr_scale(99, progress) for progress in (0.4, 0.5, 0.75, 1.0)] == pytest.approx([1.0, 1.0, 0.5, 0.0])
