"""The one interface of all base policies on states: an observation in, a chunk of absolute actions out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from resip import spaces
from torch import Tensor, nn

from resip_training.models.normalizer import ChunkNormalizer, Normalizer

OBSERVATION_LIMIT: Final = 3.0  # normalised observations are clamped here, as in the reference implementation


@dataclass(frozen=True)
class BaseConfig:
    """What all base policies have to choose.

    Attributes:
      prediction_horizon: actions per chunk (T_p).
      action_horizon: actions executed before the next chunk is asked for (T_a).
      actions: inside the network, ``relative`` to the present pose, each step of the chunk in a range of its own
        (see `ChunkNormalizer`), or ``absolute`` in the range of the whole data, as in the paper.
      parts: what the network is shown, ``moving`` parts and the obstacle or ``all`` parts, as in the paper. A
        part that is never used is only noise to memorise the few demonstrations by.
    """

    prediction_horizon: int = 32
    action_horizon: int = 8
    actions: Literal["relative", "absolute"] = "relative"
    parts: Literal["moving", "all"] = "moving"


class BasePolicy(nn.Module, ABC):
    """Predict a chunk of absolute actions from one observation of robot state and part poses.

    Limits of the data are in the weights: ``observation_normalizer`` over the whole observation and
    ``action_normalizer`` over absolute actions also serve what is learned on top of a base.

    Args:
      config: horizons and what the network sees and says.
      observation_dim: robot state (16) and all part poses (7 each), the obstacle's last.
      columns: of the observation, that the network is shown.
    """

    columns: Tensor

    def __init__(self, config: BaseConfig, observation_dim: int, columns: Sequence[int]) -> None:
        super().__init__()
        self.prediction_horizon, self.action_horizon = config.prediction_horizon, config.action_horizon
        self.relative = config.actions == "relative"
        self.register_buffer("columns", torch.tensor(list(columns), dtype=torch.int64))
        self.observation_normalizer = Normalizer(observation_dim)
        self.action_normalizer = Normalizer(spaces.ACTION_DIM)
        self.chunk_normalizer = ChunkNormalizer(config.prediction_horizon)

    @property
    def feature_dim(self) -> int:
        """Numbers that the network is shown."""
        return len(self.columns)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.columns.device

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Of one sample's noise: (T_p, 10)."""
        return self.prediction_horizon, spaces.ACTION_DIM

    def fit(self, observation: Tensor, actions: Tensor) -> None:
        """Take the limits from observations ``(N, D)`` and the chunks ``(N, T_p, 10)`` that follow them."""
        self.observation_normalizer.fit(observation)
        self.action_normalizer.fit(actions.flatten(0, 1))
        self.chunk_normalizer.fit(observation[:, : spaces.STATE_DIM], actions)

    def normalized_observation(self, observation: Tensor) -> Tensor:
        """Normalise and clamp whole observations ``(B, D)``."""
        return self.observation_normalizer.normalize(observation).clamp(-OBSERVATION_LIMIT, OBSERVATION_LIMIT)

    def loss(self, observation: Tensor, actions: Tensor) -> Tensor:
        """Of predicting the chunks ``(B, T_p, 10)`` from the observations ``(B, D)``, both in physical units."""
        return self.chunk_loss(self._features(observation), self._encode(actions, observation))

    def sample(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Predict absolute actions.

        Args:
          observation: ``(B, D)``, physical units.
          noise: ``(B, T_p, 10)``, standard normal; a deterministic policy ignores it.

        Returns:
          Actions ``(B, T_p, 10)``, physical units.
        """
        return self._decode(self.predict(self._features(observation), noise), observation)

    @abstractmethod
    def chunk_loss(self, features: Tensor, chunk: Tensor) -> Tensor:
        """Of the network: features ``(B, feature_dim)`` and the chunk ``(B, T_p, 10)``, both normalised."""

    @abstractmethod
    def predict(self, features: Tensor, noise: Tensor) -> Tensor:
        """The network's normalised chunk ``(B, T_p, 10)`` from normalised features ``(B, feature_dim)``."""

    def _features(self, observation: Tensor) -> Tensor:
        return self.normalized_observation(observation)[:, self.columns]

    def _encode(self, actions: Tensor, observation: Tensor) -> Tensor:
        if self.relative:
            return self.chunk_normalizer.normalize(actions, observation[:, : spaces.STATE_DIM])
        return self.action_normalizer.normalize(actions)

    def _decode(self, chunk: Tensor, observation: Tensor) -> Tensor:
        if self.relative:
            return self.chunk_normalizer.denormalize(chunk, observation[:, : spaces.STATE_DIM])
        return self.action_normalizer.denormalize(chunk)
