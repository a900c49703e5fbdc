"""Demonstrations of the expert, recorded with images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from resip import rotation, spaces
from resip.errors import ResipError
from resip_training.data.collect import collect
from resip_training.data.store import DemoSet
from resip_training.experts.rollout import Disturbance, run_expert
from resip_training.sim import snapshots
from resip_training.sim.env import AssemblyEnv


def test_a_collection_is_completed_where_it_stopped(tmp_path: Path) -> None:
    out = tmp_path / "demos"
    collect("one_leg", demos=1, seed=700, randomness="low", out=out, threads=1)
    first = DemoSet(out, task="one_leg")
    collect("one_leg", demos=2, seed=700, randomness="low", out=out, threads=1)
    both = DemoSet(out, task="one_leg")
    assert both.n_episodes == 2
    assert both.success.all()
    assert both.seeds.tolist() == [700, 701]
    np.testing.assert_array_equal(both.action[: first.n_steps], first.action)
    frames = both.images("wrist", slice(0, both.n_steps))
    assert frames.shape == (both.n_steps, spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3)
    assert frames.std(axis=0).mean() > 5.0, "the picture must change as the arm moves"


def test_states_alone_are_collected_with_the_simulators(tmp_path: Path) -> None:
    collect("peg_hole", demos=1, seed=700, randomness="low", out=tmp_path / "one", threads=1, images=False)
    demos = DemoSet(tmp_path / "one", task="peg_hole")
    assert not demos.has_images
    env = AssemblyEnv("peg_hole", num_envs=1)
    snapshots.check(demos.provenance["simulator"]["world"], env.worlds.snapshot(), demos.path)
    env.worlds.restore(snapshots.unflatten(demos.world[[20]], env.worlds.snapshot()), np.array([True]))
    np.testing.assert_array_equal(env.robot_state()[0].astype(np.float32), demos.robot_state[20])
    np.testing.assert_array_equal(env.part_poses()[0].ravel().astype(np.float32), demos.part_poses[20])


def test_displaced_copies_have_no_simulator_states(tmp_path: Path) -> None:
    collect("peg_hole", demos=1, seed=700, randomness="low", out=tmp_path, threads=1, copies=1, images=False)
    demos = DemoSet(tmp_path)
    assert demos.n_episodes == 2
    assert not demos.has_worlds


def test_a_demonstration_is_labelled_with_the_right_action_where_an_error_led_the_arm_astray() -> None:
    (clean,) = run_expert("one_leg", "low", [710])
    (astray,) = run_expert("one_leg", "low", [710], disturbance=Disturbance())
    np.testing.assert_array_equal(clean.robot_state[0], astray.robot_state[0])
    np.testing.assert_array_equal(clean.action[0], astray.action[0])
    assert not np.allclose(clean.robot_state[5], astray.robot_state[5], atol=1e-3)
    rotation.matrix_from_rot6d(astray.action[:, spaces.ACTION_ROT6D])


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ResipError, match="not a demonstration data set"):
        collect("one_leg", demos=1, seed=0, randomness="low", out=tmp_path, threads=1)
