"""`resip bench bc`: both programs clone the same demonstrations with networks of the same size, turn by turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_demos import write_demos
from resip_training.algorithms.state_bc import StateBCConfig
from resip_training.bench import bc, peer
from resip_training.bench.figures import BCFigures
from resip_training.bench.peer import BC_PEER, PeerError
from resip_training.data.store import DemoSet
from resip_training.models.mlp import MlpConfig


@pytest.fixture
def demos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DemoSet:
    small = MlpConfig(
        poses="absolute", prediction_horizon=1, action_horizon=1, width=16, blocks=1, actions="absolute", parts="all"
    )
    monkeypatch.setattr(bc, "_POLICY", small)
    monkeypatch.setattr(bc, "_WARM_UP_UPDATES", 1)
    return write_demos(tmp_path / "demos", n_episodes=13)


def of_the_peer(samples_per_cpu_s: float) -> BCFigures:
    return BCFigures("robomimic", parameters=1, batch_size=256, updates=2, samples_per_cpu_s=samples_per_cpu_s)


def test_both_are_measured_by_turns_and_the_ratio_is_the_median_of_the_turns(
    demos: DemoSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    turns = iter([100.0, 400.0, 200.0])
    asked: list[tuple[str, ...]] = []

    def run_peer(name: str, kind: type, *arguments: str) -> BCFigures:
        arrays = np.load(arguments[0])
        assert arrays["observation"].shape == (len(demos.action), 16 + demos.part_poses.shape[1])
        assert np.abs(arrays["action"]).max() <= 1 + 1e-6
        assert arrays["episode_ends"].tolist() == [20 * k for k in range(1, 14)]
        asked.append((name, *arguments[1:]))
        return of_the_peer(next(turns))

    monkeypatch.setattr(bc, "run_peer", run_peer)
    monkeypatch.setattr(bc, "measure", lambda config, data, updates: of_the_peer(600.0))
    bc.bench_bc(demos.path, updates=2, repeats=3, json_path=tmp_path / "bc.json")
    written = json.loads((tmp_path / "bc.json").read_text())
    assert asked == [(BC_PEER, "16", "3", "256", "2")] * 3, "three layers of the same width, the same batch"
    assert written["ratios"] == [6.0, 1.5, 3.0]
    assert written["ratio"] == 3.0
    assert [row["samples_per_cpu_s"] for row in written["rows"]] == [600.0, 200.0]
    assert "ratio 3.00" in capsys.readouterr().out


def test_ours_counts_the_windows_of_its_updates(demos: DemoSet):
    config = StateBCConfig(bc._POLICY, batch_size=32)
    figures = bc.measure(config, bc.load_state_data(demos, config), updates=3)
    assert (figures.batch_size, figures.updates) == (32, 3)
    assert figures.samples_per_cpu_s > 0
    inputs = 16 + demos.part_poses.shape[1]
    layers = [(inputs, 16), (16, 16), (16, 16), (16, 10)]
    assert figures.parameters == sum((n + 1) * m for n, m in layers), "which are those that the peer is told of"


def test_a_peer_that_fails_is_told_in_a_line(demos: DemoSet, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any) -> None:
        raise PeerError("cannot install robomimic_bc: no network")

    monkeypatch.setattr(bc, "run_peer", fail)
    with pytest.raises(PeerError, match="no network"):
        bc.bench_bc(demos.path, updates=1, repeats=1, json_path=None)


def test_the_peer_has_a_program_and_pinned_requirements_with_the_torch_of_this_project():
    assert (peer._FOLDER / f"{BC_PEER}.py").is_file()
    requirements = (peer._FOLDER / f"{BC_PEER}.txt").read_text().split()
    assert all("==" in requirement for requirement in requirements)
    assert f"torch=={torch.__version__.partition('+')[0]}" in requirements
