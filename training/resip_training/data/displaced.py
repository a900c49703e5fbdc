"""Displaced copies of an episode: the same scene and motion elsewhere on the table.

Arm, parts and obstacle move together, so every relation between them stays and the same actions, moved alike,
are right. Fifty demonstrations show fifty places; to point at a part to the millimetre a network needs more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces
from resip.control import ik

from resip_training.experts.rollout import Trajectory

#: Largest displacement along x and y: that of the parts at low randomness.
DISPLACEMENT_M: Final = 0.015
_IK: Final = ik.IkSettings(iterations=12, posture_gain=0.0)


def displaced(run: Trajectory, copy: int) -> Trajectory:
    """Copy number ``copy`` of an episode; number 0 is the episode itself.

    Joints follow by inverse kinematics. The displacement is drawn from the episode's seed.
    """
    if copy == 0:
        return run
    plane_m = np.random.default_rng([run.seed, 2, copy]).uniform(-DISPLACEMENT_M, DISPLACEMENT_M, 2)
    return moved(run, np.append(plane_m, 0.0))


def moved(run: Trajectory, offset_m: NDArray[np.float64]) -> Trajectory:
    """The episode with everything in it moved by ``offset_m`` ``(3,)`` in the base frame; the simulator's states go."""
    state, action = run.robot_state.copy(), run.action.copy()
    state[:, spaces.STATE_POSITION] += offset_m
    action[:, spaces.ACTION_POSITION] += offset_m
    poses = run.part_poses.reshape(len(run), -1, spaces.PART_POSE_DIM).copy()
    poses[..., :3] += offset_m
    tip = spaces.Pose(state[:, spaces.STATE_POSITION], rotation.matrix_from_rot6d(state[:, spaces.STATE_ROT6D]))
    return replace(
        run,
        robot_state=state,
        action=action,
        part_poses=poses.reshape(len(run), -1),
        joint_positions=ik.solve(run.joint_positions, tip, _IK),
        world=None,
    )
