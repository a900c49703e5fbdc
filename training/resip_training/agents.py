"""Who acts in an environment without having learned anything: a task's expert, chance, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces
from resip.errors import check_name

from resip_training.experts import motion
from resip_training.experts.rollout import EXPERTS
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.task import Task

Array = NDArray[np.float64]
Observation = Mapping[str, NDArray[Any]]

#: How far a random target lies from the fingertip at most, on each axis: what experts ask for in free space.
_RANDOM_M: Final = motion.TRAVEL.lead_m
_RANDOM_RAD: Final = motion.TRAVEL.lead_rad


class Agent(Protocol):
    """Decides the next actions in an ``AssemblyEnv``."""

    def __call__(self, env: AssemblyEnv, observation: Observation, live: NDArray[np.int64]) -> Array:
        """Actions ``(n, 10)`` for what is observed; only those of the environments ``live`` count."""
        ...


class ExpertAgent:
    """Acts as the task's scripted expert."""

    def __init__(self, task: Task) -> None:
        """Find the expert.

        Raises:
          UnknownNameError: the task has none.
        """
        check_name("expert", task.name, EXPERTS)
        self._expert = EXPERTS[task.name]

    def __call__(self, env: AssemblyEnv, observation: Observation, live: NDArray[np.int64]) -> Array:
        """What the expert does next."""
        actions = zero_agent(env, observation, live)
        for i in live:
            scene = motion.unpack(observation["robot_state"][i], observation["part_poses"][i], env.task.part_names)
            actions[i] = self._expert(scene)
        return actions


class RandomAgent:
    """Asks for random poses around the fingertip, and a gripper that opens and closes."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 3])

    def __call__(self, env: AssemblyEnv, observation: Observation, live: NDArray[np.int64]) -> Array:
        """Poses within 4 cm and 0.3 rad on each axis."""
        state = observation["robot_state"]
        offset_m = self._rng.uniform(-_RANDOM_M, _RANDOM_M, (len(state), 3))
        turn = rotation.matrix_from_rotvec(self._rng.uniform(-_RANDOM_RAD, _RANDOM_RAD, (len(state), 3)))
        matrix = turn @ rotation.matrix_from_rot6d(state[:, spaces.STATE_ROT6D])
        gripper = self._rng.choice([spaces.GRIPPER_OPEN, spaces.GRIPPER_CLOSE], len(state))
        return spaces.pack_action(state[:, spaces.STATE_POSITION] + offset_m, matrix, gripper)


def zero_agent(env: AssemblyEnv, observation: Observation, live: NDArray[np.int64]) -> Array:
    """Ask the arm to stay where it is, gripper open."""
    state = observation["robot_state"]
    return np.concatenate([state[:, :9], np.full((len(state), 1), spaces.GRIPPER_OPEN)], axis=1)


#: Agents that need no checkpoint, by name, from a task and a seed.
AGENTS: Final = MappingProxyType(
    {
        "expert": lambda task, seed: ExpertAgent(task),
        "random": lambda task, seed: RandomAgent(seed),
        "zero": lambda task, seed: zero_agent,
    }
)
