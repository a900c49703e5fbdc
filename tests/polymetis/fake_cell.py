"""The simplest arm there is, seven masses on rails, behind the simulated robot: no physics engine needed."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from resip.control import panda
from resip.polymetis.simulated import SimulatedRobot

INERTIA = np.array([1.5, 1.5, 1.2, 1.2, 0.3, 0.3, 0.15])  # kg m^2, of the Panda's order
TIMESTEP_S = 0.002
HAND_SPEED_M_S = 0.1
PATIENCE_S = 20.0


class FakeCell:
    """Decoupled double integrators and a hand that moves at a constant speed."""

    def __init__(self, q_rad=panda.RESET_RAD, object_width_m=0.0):
        self.joint_positions = np.array(q_rad, dtype=float)
        self.joint_velocities = np.zeros(panda.DOF)
        self.external_torques = np.zeros(panda.DOF)
        self.time_s = 0.0
        self.applied = np.zeros(panda.DOF)
        self.gripper_width_m = 0.08
        self.gripper_calls = []
        self.object_width_m = object_width_m
        self._hand_goal_m = self.gripper_width_m
        self._steps = 0

    def apply(self, torques_nm):
        assert np.all(np.isfinite(torques_nm))
        self.applied = torques_nm

    def step(self):
        self.joint_velocities = self.joint_velocities + TIMESTEP_S * self.applied / INERTIA
        self.joint_positions = self.joint_positions + TIMESTEP_S * self.joint_velocities
        change = np.clip(
            self._hand_goal_m - self.gripper_width_m, -HAND_SPEED_M_S * TIMESTEP_S, HAND_SPEED_M_S * TIMESTEP_S
        )
        self.gripper_width_m += float(change)
        self._steps += 1
        self.time_s = self._steps * TIMESTEP_S

    @property
    def gripper_moving(self):
        return abs(self._hand_goal_m - self.gripper_width_m) > 1e-9

    @property
    def gripper_grasped(self):
        return self.object_width_m > 0 and abs(self.gripper_width_m - self.object_width_m) < 1e-6

    def gripper_move(self, width_m, speed_m_s):
        self.gripper_calls.append(("move", round(width_m, 4)))
        self._hand_goal_m = width_m

    def gripper_grasp(self, speed_m_s):
        self.gripper_calls.append(("grasp", round(speed_m_s, 4)))
        self._hand_goal_m = self.object_width_m


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds; fail after a patience that a loaded machine never needs."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.002)


def run_for(robot: SimulatedRobot, duration_s: float) -> None:
    """Tick through ``duration_s`` of cell time in this thread."""
    for _ in range(round(duration_s / TIMESTEP_S)):
        robot.tick()
