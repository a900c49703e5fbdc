"""The arm answers alike in training and behind the bridge, over the real wire protocol."""

from __future__ import annotations

import numpy as np
import pytest
from resip_training.parity import STEPS, robot_response, training_response

SETTLING_TOLERANCE_S = 0.020


@pytest.mark.parametrize("step", STEPS)
def test_steps_settle_at_the_same_time_and_along_the_same_way(step: str) -> None:
    robot, training = robot_response(step), training_response(step)
    assert training.settling_time_s == pytest.approx(robot.settling_time_s, abs=SETTLING_TOLERANCE_S + 1e-9)
    progress = np.interp(training.time_s, robot.time_s, robot.progress)
    assert np.abs(progress - training.progress).max() < 0.08


def test_the_references_drive_is_slower_than_the_robots_controller() -> None:
    assert training_response("x", "reference").settling_time_s > training_response("x").settling_time_s + 0.1
