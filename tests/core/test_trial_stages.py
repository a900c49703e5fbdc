"""Coarse stages of one_leg from its part poses."""

import numpy as np
import pytest
from resip.trials.stages import MARKS, Stage, one_leg_stage, reached, stages
from trial_bags import part_poses


@pytest.mark.parametrize(
    ("t", "stage"), [(0.5, "place the top"), (1.5, "pick the leg"), (2.5, "carry the leg"), (3.5, "screw the leg")]
)
def test_each_stage_is_told_by_where_the_parts_are(t, stage):
    assert one_leg_stage(part_poses(t, duration_s=4.0)) == stage


def test_the_other_corner_of_the_obstacle_counts_too():
    poses = part_poses(1.5, duration_s=4.0)
    poses[0, 1] *= -1
    assert one_leg_stage(poses) == "pick the leg"


def test_a_corner_moves_with_the_obstacle():
    poses = part_poses(1.5, duration_s=4.0)
    poses[-1, 0] += 0.03
    assert one_leg_stage(poses) == "place the top"


def test_a_trial_is_cut_where_the_stage_changes():
    times = np.arange(0.0, 4.01, 0.1)
    found = stages("one_leg", times, np.array([part_poses(t, 4.0) for t in times]))
    assert [stage.name for stage in found] == ["place the top", "pick the leg", "carry the leg", "screw the leg"]
    assert [stage.start_s for stage in found] == pytest.approx([0.0, 1.0, 2.0, 3.0], abs=0.11)
    assert found[-1].end_s == pytest.approx(4.0)


def test_a_flicker_of_less_than_half_a_second_is_no_stage():
    times = np.arange(0.0, 2.0, 0.1)
    poses = np.array([part_poses(0.5, 4.0)] * len(times))
    poses[8:11] = part_poses(2.5, 4.0)
    assert stages("one_leg", times, poses) == [Stage("place the top", 0.0, pytest.approx(1.9))]


def test_a_task_without_a_rule_or_a_robot_without_part_poses_has_no_stages():
    assert stages("lamp", np.array([0.0]), np.zeros((1, 6, 7))) == []
    assert stages("one_leg", np.empty(0), np.empty((0, 0, 7))) == []


def test_how_far_a_trial_got_is_told_with_its_times():
    times = np.arange(0.0, 4.01, 0.1)
    poses = np.array([part_poses(t, 4.0) for t in times])
    marks = reached("one_leg", times, poses)
    assert list(marks) == ["corner", "grasp", "insert"]  # the leg stands 4 mm over its seat: put in, not screwed
    assert list(marks.values()) == pytest.approx([1.0, 2.0, 3.0], abs=0.11)
    assert set(marks) < set(MARKS["one_leg"])


def test_a_leg_at_its_seat_is_screwed():
    seated = part_poses(3.9, 4.0)
    seated[4, 2] -= 0.003
    assert "screw" in reached("one_leg", np.array([0.0, 0.1]), np.array([seated, seated]))


def test_what_holds_for_less_than_half_a_second_was_not_reached():
    times = np.arange(0.0, 2.0, 0.1)
    poses = np.array([part_poses(0.5, 4.0)] * len(times))
    poses[8:11] = part_poses(2.5, 4.0)
    assert reached("one_leg", times, poses) == {}


def test_a_task_without_rules_is_not_told():
    assert reached("lamp", np.array([0.0]), np.zeros((1, 6, 7))) == {}
