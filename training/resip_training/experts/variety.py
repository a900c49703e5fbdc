"""How demonstrations of the scripted experts vary: on purpose, as people do, and by mistake.

A `Style` changes what the expert means to do, and the recorded action with it: how fast, on which path, where along
a part. A `Disturbance` changes what the arm is told, and the recorded action is the expert's right one at the place
that the error led to. Both are drawn from the episode's seed. Neither adds pauses, timers or larger leads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces

from resip_training.experts import motion
from resip_training.experts.motion import Scene

Array = NDArray[np.float64]

#: A lead up to this is for contact: only what exceeds it has style, so that pushing and fitting stay as they are.
_CONTACT: Final = motion.CONTACT
_TRAVEL: Final = motion.TRAVEL


@dataclass(frozen=True)
class Style:
    """How people who do the same thing differ, and one person from one moment to the next."""

    pace: tuple[float, float] = (0.75, 1.05)
    """Speed of an episode, as a factor of the expert's, between these."""
    pace_within: float = 0.08
    """Standard deviation of its changes within the episode, which last for seconds."""
    bow_rad: float = 0.25
    """Standard deviation of the angle, to the left or right of the straight way, at which the hand sets out."""
    arch: float = 0.3
    """Greatest rise on the way, as a share of the horizontal motion."""
    grip: float = 1.0
    """Greatest distance from a part's usual place to grip it, as a share of what the expert has room for."""
    memory: float = 0.97
    """Share of pace and path that lasts from one step to the next: what differs between motions, not between steps."""


@dataclass(frozen=True)
class Disturbance:
    """Random errors in what the arm is told, so that demonstrations show how to recover from them.

    One error wanders (a first-order process) and grows with the motion that is asked for: a person's aim is off on
    the way. Another is there on arrival, now and then: the hand comes down beside its goal, for as long as it takes
    to notice. Source: DART, Laskey et al. 2017.
    """

    share: float = 0.05
    """Standard deviation on each axis, as a share of the commanded displacement, and about it, of the rotation."""
    memory: float = 0.85
    """Share of the error that lasts from one step to the next."""
    slip: float = 0.001
    """Chance at each step that the hand opens, for as long as that takes, whatever it was told."""
    miss: float = 0.01
    """Chance at each slow step, of those that fit or grasp, that the hand comes beside its goal."""
    miss_m: float = 0.003
    """Standard deviation of that on both horizontal axes."""


_SLIP_STEPS: Final = 8
_MISS_STEPS: Final = 10


class Manner:
    """The style of one episode.

    Args:
      style: what may differ.
      seed: of the episode.
      part_names: of the task.
    """

    def __init__(self, style: Style, seed: int, part_names: tuple[str, ...]) -> None:
        self._style = style
        self._rng = np.random.default_rng([seed, 3])
        self._pace = self._rng.uniform(*style.pace)
        self._arch = self._rng.uniform(0.0, style.arch)
        self._grip = {name: float(self._rng.uniform(-style.grip, style.grip)) for name in part_names}
        self._wander = self._rng.standard_normal(2)

    def sees(self, scene: Scene) -> Scene:
        """What the expert is to see: the scene, with where this person grips parts."""
        return replace(scene, grip=self._grip)

    def does(self, scene: Scene, action: Array) -> Array:
        """The expert's action ``(10,)``, at this person's pace and on their path; call it once for each step."""
        memory = self._style.memory
        self._wander = memory * self._wander + np.sqrt(1 - memory**2) * self._rng.standard_normal(2)
        pace = float(np.clip(self._pace + self._style.pace_within * self._wander[0], 0.6, self._style.pace[1]))
        pose = spaces.action_pose(action)
        step = pose.position - scene.ee.position
        lead_m = float(np.linalg.norm(step))
        lead_rad = float(rotation.angle_between(scene.ee.matrix, pose.matrix))
        freedom = _freedom(lead_m, _CONTACT.lead_m, _TRAVEL.lead_m)
        step = self._bowed(step, freedom) * _paced(lead_m, _CONTACT.lead_m, pace)
        turned = rotation.interpolate(scene.ee.matrix, pose.matrix, _paced(lead_rad, _CONTACT.lead_rad, pace))
        return spaces.pack_action(scene.ee.position + step, turned, action[spaces.ACTION_GRIPPER.start])

    def _bowed(self, step: Array, freedom: float) -> Array:
        """The step to the left or right of the straight way and above it, as far as it is free, no longer than it."""
        bow = rotation.matrix_from_rotvec([0.0, 0.0, freedom * self._style.bow_rad * self._wander[1]]) @ step
        bow[2] += freedom * self._arch * np.hypot(step[0], step[1])
        return bow * np.linalg.norm(step) / max(float(np.linalg.norm(bow)), 1e-9)


def _freedom(lead: float, contact: float, travel: float) -> float:
    """Of a lead, from 0 at contact's to 1 at travel's."""
    return float(np.clip((lead - contact) / (travel - contact), 0.0, 1.0))


def _paced(lead: float, contact: float, pace: float) -> float:
    """Factor on a lead that makes what exceeds contact's ``pace`` times as long."""
    return 1.0 if lead <= contact else (contact + pace * (lead - contact)) / lead


class Mistakes:
    """The errors of one episode.

    Args:
      disturbance: what may go wrong.
      seed: of the episode.
    """

    def __init__(self, disturbance: Disturbance, seed: int) -> None:
        self._disturbance = disturbance
        self._rng = np.random.default_rng([seed, 1])
        self._error = np.zeros(6)
        self._slipping_steps = 0
        self._missing_steps = 0
        self._beside_m = np.zeros(3)

    def told(self, action: Array, state: Array) -> Array:
        """What the arm at ``state`` ``(16,)`` is told instead of ``action`` ``(10,)``."""
        memory = self._disturbance.memory
        self._error = memory * self._error + np.sqrt(1 - memory**2) * self._rng.standard_normal(6)
        pose = spaces.action_pose(action)
        ahead_m = float(np.linalg.norm(pose.position - state[spaces.STATE_POSITION]))
        ahead_rad = rotation.angle_between(rotation.matrix_from_rot6d(state[spaces.STATE_ROT6D]), pose.matrix)
        offset_m, turn_rad = self._disturbance.share * self._error.reshape(2, 3) * [[ahead_m], [ahead_rad]]
        turned = rotation.matrix_from_rotvec(turn_rad) @ pose.matrix
        position = pose.position + offset_m + self._missed_by_m(ahead_m)
        return spaces.pack_action(position, turned, self._gripper(action[spaces.ACTION_GRIPPER.start]))

    def _missed_by_m(self, ahead_m: float) -> Array:
        if self._missing_steps == 0 and ahead_m < 2 * _CONTACT.lead_m and self._rng.random() < self._disturbance.miss:
            self._missing_steps = _MISS_STEPS
            self._beside_m = np.append(self._disturbance.miss_m * self._rng.standard_normal(2), 0.0)
        if self._missing_steps == 0:
            return np.zeros(3)
        self._missing_steps -= 1
        return self._beside_m

    def _gripper(self, command: float) -> float:
        if self._rng.random() < self._disturbance.slip:
            self._slipping_steps = _SLIP_STEPS
        self._slipping_steps = max(0, self._slipping_steps - 1)
        return spaces.GRIPPER_OPEN if self._slipping_steps else command
