"""The one interface of all base policies on states: an observation in, a chunk of absolute actions out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from resip import spaces
from torch import Tensor, nn

from resip_training.models.features import Inputs, ObservationFeatures
from resip_training.models.normalizer import ChunkNormalizer, Normalizer
from resip_training.models.poses import Poses


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
      poses: as the network is told them, see `Poses`; ``absolute`` is the paper's way. An insertion is decided by
        tenths of a millimetre between two parts, in the frame of one of them: a network that is given the two poses
        has to learn that from a few demonstrations.
    """

    prediction_horizon: int = 32
    action_horizon: int = 8
    actions: Literal["relative", "absolute"] = "relative"
    parts: Literal["moving", "all"] = "moving"
    poses: Poses = "goals"


class BasePolicy(nn.Module, ABC):
    """Predict a chunk of absolute actions from one observation of robot state and part poses.

    Limits of the data are in the weights: those of ``observe``, which also serves what is learned on top of a base,
    and of ``action_normalizer`` over absolute actions.

    Args:
      config: horizons and what the network sees and says.
      inputs: what there is to see.
    """

    def __init__(self, config: BaseConfig, inputs: Inputs) -> None:
        super().__init__()
        self.prediction_horizon, self.action_horizon = config.prediction_horizon, config.action_horizon
        self.relative = config.actions == "relative"
        self._poses: Poses = config.poses
        self.observe = ObservationFeatures(inputs)
        self.action_normalizer = Normalizer(spaces.ACTION_DIM)
        self.chunk_normalizer = ChunkNormalizer(config.prediction_horizon)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.observe.columns.device

    @property
    def feature_dim(self) -> int:
        """Numbers that the network is shown."""
        return self.observe.dim(self._poses)

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Of one sample's noise: (T_p, 10)."""
        return self.prediction_horizon, spaces.ACTION_DIM

    def fit(self, observation: Tensor, actions: Tensor, *, more: bool = False) -> None:
        """Take the limits from observations ``(N, D)`` and the chunks ``(N, T_p, 10)`` that follow them.

        With ``more``, from those of the calls before as well: large data are shown in pieces.
        """
        self.observe.fit(observation, more=more)
        self.action_normalizer.fit(actions.flatten(0, 1), more=more)
        self.chunk_normalizer.fit(observation[:, : spaces.STATE_DIM], actions, more=more)

    def features(self, observation: Tensor) -> Tensor:
        """What the network is shown of observations ``(B, D)``: ``(B, feature_dim)``."""
        return self.observe(observation, self._poses)

    def loss(self, observation: Tensor, actions: Tensor) -> Tensor:
        """Of predicting the chunks ``(B, T_p, 10)`` from the observations ``(B, D)``, both in physical units."""
        return self.chunk_loss(self.features(observation), self._encode(actions, observation))

    def sample(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Predict absolute actions.

        Args:
          observation: ``(B, D)``, physical units.
          noise: ``(B, T_p, 10)``, standard normal; a deterministic policy ignores it.

        Returns:
          Actions ``(B, T_p, 10)``, physical units.
        """
        return self._decode(self.predict(self.features(observation), noise), observation)

    @abstractmethod
    def chunk_loss(self, features: Tensor, chunk: Tensor) -> Tensor:
        """Of the network: features ``(B, feature_dim)`` and the chunk ``(B, T_p, 10)``, both normalised."""

    @abstractmethod
    def predict(self, features: Tensor, noise: Tensor) -> Tensor:
        """The network's normalised chunk ``(B, T_p, 10)`` from normalised features ``(B, feature_dim)``."""

    def _encode(self, actions: Tensor, observation: Tensor) -> Tensor:
        if self.relative:
            return self.chunk_normalizer.normalize(actions, observation[:, : spaces.STATE_DIM])
        return self.action_normalizer.normalize(actions)

    def _decode(self, chunk: Tensor, observation: Tensor) -> Tensor:
        if self.relative:
            return self.chunk_normalizer.denormalize(chunk, observation[:, : spaces.STATE_DIM])
        return self.action_normalizer.denormalize(chunk)
