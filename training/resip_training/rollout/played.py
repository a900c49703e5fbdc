"""A policy on states that acts in the one world of `resip play`, and tells what its base wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from resip import spaces

from resip_training.checkpoints import Teacher
from resip_training.render.intent import Intent
from resip_training.rollout.episodes import observe
from resip_training.rollout.teacher import ResidualAgent
from resip_training.sim.env import AssemblyEnv


class TeacherAgent:
    """An `Agent` for an environment with one world.

    Attributes:
      intent: what base and residual wanted where it acted last; None before that.
    """

    def __init__(self, teacher: Teacher, seed: int) -> None:
        """Begin the episode of ``seed``; its noise is that of the same seed's in an evaluation."""
        self.intent: Intent | None = None
        self._agent = teacher.agent(1)
        self._agent.start(np.array([True]), [seed])

    def __call__(
        self, env: AssemblyEnv, observation: Mapping[str, NDArray[Any]], live: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The action ``(1, 10)`` for what is observed."""
        actions = self._agent.act(observe(dict(observation))).double().numpy()
        fingertip, wanted = observation["robot_state"][0, spaces.STATE_POSITION], actions[0, spaces.ACTION_POSITION]
        if isinstance(self._agent, ResidualAgent):
            base = self._agent.base_action[0, spaces.ACTION_POSITION].double().numpy()
            self.intent = Intent(fingertip, base, wanted)
        else:
            self.intent = Intent(fingertip, wanted)
        return actions
