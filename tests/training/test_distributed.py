"""Two processes do what one does with the same batch and the same worlds; only the first one writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shared_runs
import torch
from resip.errors import ResipError
from resip_training import distributed, runs
from resip_training.data.collect import collect
from resip_training.rollout.starts import Starts
from resip_training.runs import read_metrics
from safetensors.torch import load_file
from torch import Tensor

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("distributed") / "demos"
    collect("peg_hole", 2, 300, "low", path, threads=1, images=False)
    return path


@pytest.fixture(scope="module")
def one(demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one")
    shared_runs.clone(demos, out)
    shared_runs.correct(demos, out / "diffusion", out)
    shared_runs.whiten(demos, out / "diffusion", out)
    return out


@pytest.fixture(scope="module")
def two(demos: Path, one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, shared_runs.__file__, str(demos), str(one / "diffusion"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    (out / "printed").write_text(done.stdout)
    return out


def assert_alike(one: dict[str, Tensor], two: dict[str, Tensor], prefix: str = "") -> None:
    """But for the order of sums: Adam makes a whole step, up to a thousandth, of a gradient that is all rounding."""
    assert one.keys() == two.keys()
    for name in (name for name in one if name.startswith(prefix)):
        apart = (two[name].double() - one[name].double()).abs()
        assert apart.max() < 1e-3, name
        assert (apart > 1e-4).double().mean() < 0.01, name


@pytest.mark.parametrize("run", ["diffusion", "mlp"])
def test_two_processes_clone_as_one_does_with_the_same_batch(one: Path, two: Path, run: str):
    """Noise, diffusion steps and dropout are drawn as for the whole batch."""
    assert_alike(load_file(one / run / runs.CHECKPOINT_FILE), load_file(two / run / runs.CHECKPOINT_FILE), "model.")


def test_two_processes_with_half_the_worlds_each_correct_as_one_does_with_all(one: Path, two: Path):
    """The residual, the critic, the worlds as they stand, and where the next episodes begin."""
    wanted, given = (load_file(folder / "ppo" / runs.CHECKPOINT_FILE) for folder in (one, two))
    assert int(wanted["env.starts.begun"].sum()) > 2 * shared_runs.PPO.num_envs, "episodes ended on the way"
    for decisive in ("residual.", "env.observation", "env.worlds.q", "env.steps", "env.starts."):
        assert_alike(wanted, given, decisive)


def test_two_processes_whiten_by_the_first_rollout_of_both(one: Path, two: Path):
    wanted, given = (load_file(folder / "whitened" / runs.CHECKPOINT_FILE) for folder in (one, two))
    for network in ("actor", "critic"):
        name = f"residual.{network}.whitening."
        torch.testing.assert_close(given[name + "mean"], wanted[name + "mean"], rtol=0, atol=1e-5)
        # the directions are arbitrary where nothing varies, but not the metric that they make
        one_metric, two_metric = (
            tensors[name + "directions"] @ tensors[name + "directions"].T for tensors in (wanted, given)
        )
        torch.testing.assert_close(two_metric, one_metric, rtol=1e-3, atol=1.0)
        assert one_metric.max() > 100, "of directions that hardly vary"


def test_a_run_of_two_processes_is_resumed_by_one(demos: Path, one: Path, two: Path):
    for folder in (one, two):
        shared_runs.correct(demos, one / "diffusion", folder, iterations=3)
    wanted, given = (load_file(folder / "ppo" / runs.CHECKPOINT_FILE) for folder in (one, two))
    assert read_metrics(two / "ppo")["steps"] == 3 * shared_runs.PPO_STEPS // 2
    assert_alike(wanted, given, "residual.")


def test_a_signal_to_one_process_stops_all_and_saves(two: Path):
    assert read_metrics(two / "stopped")["steps"] == shared_runs.STOPPED_AT
    assert (two / "stopped" / runs.CHECKPOINT_FILE).exists()
    assert [(two / f"code_of_{rank}.txt").read_text() for rank in (0, 1)] == ["130", "130"]


def test_only_the_first_process_prints_and_logs(two: Path):
    assert (two / "printed").read_text().count("the same command goes on from there") == 1
    assert len(list((two / "mlp" / "tensorboard").iterdir())) == 1


def test_a_batch_that_cannot_be_shared_is_refused(two: Path):
    assert "15 windows of a batch cannot be shared by 2 processes" in (two / "odd.txt").read_text()


def test_an_algorithm_for_one_process_is_refused_in_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distributed, "count", lambda: 2)
    with pytest.raises(ResipError, match="distill trains in one process"):
        runs.run(tmp_path / "run", {"algorithm": "distill"}, lambda _: pytest.fail("begun"), runs.Budget())
    assert not (tmp_path / "run").exists()


def test_what_a_world_draws_follows_from_its_number_among_all(monkeypatch: pytest.MonkeyPatch):
    def seeds(worlds: range) -> list[int]:
        monkeypatch.setattr(distributed, "own", lambda each: worlds)
        starts = Starts(len(worlds), seed=0)
        return [seed for _ in range(2) for seed in starts.draw(np.ones(len(worlds), dtype=bool)).seeds]

    of_all, of_the_last = seeds(range(4)), seeds(range(2, 4))
    assert of_the_last == [of_all[i] for i in (2, 3, 6, 7)]
    assert len(set(of_all)) == 8
