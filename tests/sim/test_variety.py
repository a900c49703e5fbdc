"""Demonstrations vary as people do: the recorded action has what is meant, and not the mistakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from resip import spaces
from resip_training.experts import motion, peg_hole
from resip_training.experts.rollout import Trajectory, run_expert
from resip_training.experts.variety import Disturbance, Manner, Mistakes, Style
from resip_training.sim.tasks import PEG_HOLE

DOWN = np.diag([1.0, -1.0, -1.0])
SEED = 120


def seen(run: Trajectory, step: int) -> motion.Scene:
    return motion.unpack(run.robot_state[step], run.part_poses[step], PEG_HOLE.part_names)


def demonstrate(seed: int, style: Style | None, disturbance: Disturbance | None = None) -> Trajectory:
    (run,) = run_expert("peg_hole", "low", [seed], threads=1, style=style, disturbance=disturbance)
    return run


@pytest.fixture(scope="module")
def plain() -> Trajectory:
    return demonstrate(SEED, None)


@pytest.fixture(scope="module")
def styled() -> Trajectory:
    return demonstrate(SEED, Style())


def scene_and_action(step_m: np.ndarray) -> tuple[motion.Scene, np.ndarray]:
    """A hand that points down, and an action that leads it by a step."""
    ee = spaces.Pose(np.array([0.5, 0.0, 0.2]), DOWN)
    scene = motion.Scene(ee, 0.0, 0.07, {}, np.zeros(3))
    return scene, spaces.pack_action(ee.position + step_m, DOWN, 1.0)


# ---- what is meant ----


def test_the_seed_decides_the_style(styled: Trajectory) -> None:
    again = demonstrate(SEED, Style())
    np.testing.assert_array_equal(again.action, styled.action)


def test_people_differ_in_pace_and_path_from_the_same_start(plain: Trajectory, styled: Trajectory) -> None:
    np.testing.assert_array_equal(plain.robot_state[0], styled.robot_state[0])
    ways = [run.action[0, :3] - run.robot_state[0, :3] for run in (plain, styled)]
    assert len(plain) != len(styled)
    assert np.linalg.norm(np.cross(*ways)) > 0.03 * np.linalg.norm(ways[0]) * np.linalg.norm(ways[1])


def test_the_recorded_action_has_the_style_of_its_step(styled: Trajectory) -> None:
    manner = Manner(Style(), SEED, PEG_HOLE.part_names)
    for step, action in enumerate(styled.action):
        scene = seen(styled, step)
        np.testing.assert_allclose(manner.does(scene, peg_hole.act(manner.sees(scene))), action, atol=1e-9)


def test_no_lead_grows_by_more_than_the_pace() -> None:
    rng = np.random.default_rng(0)
    for seed in range(200):
        scene, action = scene_and_action(rng.normal(0.0, 0.02, 3))
        led_m = np.linalg.norm(action[:3] - scene.ee.position)
        told = Manner(Style(), seed, ()).does(scene, action)
        assert np.linalg.norm(told[:3] - scene.ee.position) <= 1.05 * led_m + 1e-12


def test_contact_is_as_the_expert_has_it() -> None:
    scene, action = scene_and_action(np.array([0.006, 0.0, -0.004]))
    np.testing.assert_allclose(Manner(Style(), 1, ()).does(scene, action), action, atol=1e-12)


def test_a_part_is_gripped_at_different_places_along_it(plain: Trajectory) -> None:
    closing = int(np.argmax(plain.action[:, -1] > 0))
    scene = seen(plain, closing - 1)
    heights_m = [peg_hole.act(replace(scene, grip={peg_hole.PEG: grip}))[2] for grip in (-1.0, 0.0, 1.0)]
    np.testing.assert_allclose(np.diff(heights_m), 0.005, atol=1e-6)
    assert len({Manner(Style(), seed, PEG_HOLE.part_names).sees(scene).grip[peg_hole.PEG] for seed in range(9)}) == 9


# ---- mistakes ----


def test_a_mistake_is_not_recorded_but_what_the_expert_does_about_it() -> None:
    run = demonstrate(SEED, None, Disturbance(miss=0.1))
    for step, action in enumerate(run.action):
        np.testing.assert_allclose(peg_hole.act(seen(run, step)), action, atol=1e-9)


def test_the_hand_comes_down_beside_its_goal_where_it_moves_slowly_only() -> None:
    disturbance = Disturbance(share=0.0, slip=0.0, miss=1.0)
    for step_m, misses in (([0.0, 0.0, -0.005], True), ([0.0, 0.0, -0.04], False)):
        scene, action = scene_and_action(np.array(step_m))
        state = spaces.pack_state(scene.ee.position, DOWN, np.zeros(3), np.zeros(3), np.array(0.07))
        beside_m = (Mistakes(disturbance, 1).told(action, state) - action)[:3]
        assert (np.hypot(*beside_m[:2]) > 1e-4) == misses
        assert abs(beside_m[2]) < 1e-9


def test_a_slip_opens_the_hand_whatever_it_is_told_and_ends() -> None:
    mistakes = Mistakes(Disturbance(slip=0.05), 3)
    scene, action = scene_and_action(np.zeros(3))
    state = spaces.pack_state(scene.ee.position, DOWN, np.zeros(3), np.zeros(3), np.array(0.07))
    told = [float(mistakes.told(action, state)[-1]) for _ in range(200)]
    assert set(told) == {spaces.GRIPPER_OPEN, spaces.GRIPPER_CLOSE}
