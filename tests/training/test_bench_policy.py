"""The bench compares an exported policy with the same weights in training's modules; blending smooths the borders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_demos import write_demos
from resip import spaces
from resip.policy.artefact import read_manifest
from resip_training.bench.blending import border_jerks, executed
from resip_training.bench.policy import bench_policy
from resip_training.export import export_policy
from resip_training.runs import Budget
from resip_training.train import train_images
from small_policies import SMALL

DOWN = np.diag([1.0, -1.0, -1.0])


def test_both_give_the_same_actions_and_every_stage_is_timed(tmp_path: Path) -> None:
    demos = write_demos(tmp_path / "demos", n_episodes=2, n_steps=16)
    train_images([demos.path], tmp_path / "run", budget=Budget(steps=2), config=SMALL)
    model = export_policy(tmp_path / "run", demos.path, tmp_path / "model")
    figures = bench_policy(model, turns=4, threads=1, device="cpu", json_path=tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text()) == figures
    assert figures["sha256"] == read_manifest(model)["sha256"]["policy.pt"]
    assert [row["frames"] for row in figures["rows"]] == ["320x240", "640x480"]
    for row in figures["rows"]:
        assert 0 < row["largest_difference"] < 1e-4  # not the same computation, but the same function
        for name in ("exported", "eager"):
            assert {timing["n"] for timing in row[name].values()} == {4}
        assert row["ratio"] == row["eager"]["total"]["median"] / row["exported"]["total"]["median"]


def chunk(positions_m: np.ndarray) -> np.ndarray:
    """Actions at positions along x, pointing down."""
    position = np.zeros((len(positions_m), 3))
    position[:, 0] = positions_m
    return spaces.pack_action(position, np.broadcast_to(DOWN, (len(positions_m), 3, 3)), np.ones(len(positions_m)))


def test_chunks_that_agree_have_no_jerk_at_their_borders_blended_or_not() -> None:
    path_m = 0.01 * np.arange(40)
    chunks = [chunk(path_m[start : start + 16]) for start in (0, 8, 16)]
    for blend_steps in (0, 3):
        np.testing.assert_allclose(executed(chunks, 8, blend_steps, late_steps=2)[:, 0], path_m[:24])
        np.testing.assert_allclose(border_jerks(chunks, 8, blend_steps, 2, 3), 0.0, atol=1e-9)


@pytest.mark.parametrize("late_steps", [0, 1, 4])
def test_a_step_between_chunks_is_a_ramp_when_it_is_blended(late_steps: int) -> None:
    step_m = 0.004
    chunks = [chunk(np.zeros(16)), chunk(np.full(16, step_m))]
    at_once = executed(chunks, 8, 0, late_steps)[:, 0]
    blended = executed(chunks, 8, 3, late_steps)[:, 0]
    np.testing.assert_allclose(np.diff(at_once).max(), step_m)
    np.testing.assert_allclose(np.diff(blended).max(), step_m / 4)
    border = 8 + late_steps
    np.testing.assert_allclose(
        blended[border - 1 : border + 4], step_m * np.array([0, 0.25, 0.5, 0.75, 1])[: 17 - border]
    )
    # third differences of a step: 1, -2, 1; of a ramp in four steps: 1/4, -1/4, ... (m per 0.1 s cubed)
    assert border_jerks(chunks, 8, 0, late_steps, 3).max() == pytest.approx(2e3 * step_m)
    assert border_jerks(chunks, 8, 3, late_steps, 3).max() == pytest.approx(0.25e3 * step_m)
