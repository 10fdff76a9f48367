"""Every test begins from the same chance; where Hypothesis is not installed, the others still run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import chance

drawn: list[tuple[float, float]] = []


@pytest.mark.parametrize("again", range(3))
def test_what_is_drawn_is_the_same_in_every_test(again: int) -> None:
    drawn.append((random.random(), float(torch.rand(()))))
    assert len(set(drawn)) == 1


def test_a_seed_is_the_whole_of_it() -> None:
    def drawn_by(seed: str) -> str:
        code = "from tests import chance; import random; chance.reset(); print(chance.SEED, random.random())"
        environment = {**os.environ, "DAMI_SEED": seed}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert drawn_by("5") == drawn_by("5") != drawn_by("6")
    assert drawn_by(str(chance.SEED)).startswith(f"{chance.SEED} ")


def test_a_machine_without_hypothesis_runs_the_tests_that_need_none(tmp_path: Path) -> None:
    (tmp_path / "hypothesis.py").write_text("raise ImportError('not here')")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)])
    subprocess.run(
        [sys.executable, "-c", "import tests.conftest"],
        env={**os.environ, "PYTHONPATH": paths},
        check=True,
        cwd=tmp_path,
    )
