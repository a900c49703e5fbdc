"""A compact RGB diffusion policy: two image encoders, proprioception, and a denoised action chunk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import torch
from resip import spaces
from torch import Tensor, nn

from resip_training.models.denoiser import Denoiser
from resip_training.models.encoder import ImageEncoder, View, ViewConfig
from resip_training.models.normalizer import ChunkNormalizer, Normalizer
from resip_training.models.schedule import PredictionType, inference_scheduler

_STATE_LIMIT: Final = 3.0  # normalised proprioception is clamped here, as in the reference implementation


@dataclass(frozen=True)
class PolicyConfig:
    """Architecture and diffusion settings.

    Attributes:
      front: part of the front image in use: the workspace at full resolution, where insertion is judged.
      wrist: part of the wrist image in use: all of it, at half resolution.
      feature_dim: features per camera.
      width: hidden units of the denoiser.
      blocks: residual blocks of the denoiser.
      observation_horizon: observations per prediction (T_o).
      prediction_horizon: actions per chunk (T_p).
      action_horizon: actions executed before the next chunk is asked for (T_a).
      diffusion_steps: steps of the training schedule.
      inference_steps: DDIM steps at run time.
      prediction_type: what the denoiser predicts; ``epsilon`` needs a far larger training budget.
    """

    front: ViewConfig = field(default_factory=lambda: ViewConfig(top=80, left=32, height=136, width=264))
    wrist: ViewConfig = field(default_factory=lambda: ViewConfig(top=0, left=0, height=240, width=320, reduction=2))
    feature_dim: int = 128
    width: int = 384
    blocks: int = 4
    observation_horizon: int = 1
    prediction_horizon: int = 32
    action_horizon: int = 8
    diffusion_steps: int = 100
    inference_steps: int = 8
    prediction_type: PredictionType = "sample"


class ObservationEncoder(nn.Module):
    """Normalised proprioception and both views to one feature vector."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.front = ImageEncoder(config.front.input_size, config.feature_dim)
        self.wrist = ImageEncoder(config.wrist.input_size, config.feature_dim)
        self.dim = spaces.STATE_DIM + 2 * config.feature_dim

    def forward(self, state: Tensor, front: Tensor, wrist: Tensor) -> Tensor:
        """Encode ``(B, 16)`` and two views ``(B, 3, h, w)`` as ``(B, dim)``."""
        return torch.cat([state, self.front(front), self.wrist(wrist)], dim=-1)


class DiffusionPolicy(nn.Module):
    """Predict a chunk of absolute actions from one observation.

    Part poses, which training knows, are predicted from the features and given to the denoiser beside them: it
    then works from coordinates, as a policy on states does. Inside, a chunk is relative to the present
    end-effector pose (see `ChunkNormalizer`): what is learned is where to go from here.

    Args:
      config: architecture and diffusion settings.
      part_poses_dim: numbers of the part poses that are predicted on the way.
    """

    def __init__(self, config: PolicyConfig, part_poses_dim: int) -> None:
        super().__init__()
        self.config = config
        self.state_normalizer = Normalizer(spaces.STATE_DIM)
        self.chunk_normalizer = ChunkNormalizer(config.prediction_horizon)
        self.parts_normalizer = Normalizer(part_poses_dim)
        self.encoder = ObservationEncoder(config)
        self.denoiser = Denoiser(
            config.prediction_horizon, spaces.ACTION_DIM, self.encoder.dim + part_poses_dim, config.width, config.blocks
        )
        self.parts_head = nn.Sequential(nn.Linear(self.encoder.dim, 256), nn.SiLU(), nn.Linear(256, part_poses_dim))

    def normalized_state(self, robot_state: Tensor) -> Tensor:
        """Normalise and clamp robot states ``(B, 16)``."""
        return self.state_normalizer.normalize(robot_state).clamp(-_STATE_LIMIT, _STATE_LIMIT)

    def condition(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What the denoiser works from, ``(B, encoder.dim + part poses)``, and the normalised part poses in it."""
        parts = self.parts_head(features)
        return torch.cat([features, parts], dim=-1), parts

    @torch.no_grad()
    def sample(self, robot_state: Tensor, front: Tensor, wrist: Tensor, noise: Tensor) -> Tensor:
        """Denoise with diffusers' DDIM: the reference for the loop inside the exported module.

        Args:
          robot_state: ``(B, 16)``.
          front: views ``(B, 3, h, w)`` in [-1, 1].
          wrist: views ``(B, 3, h, w)`` in [-1, 1].
          noise: ``(B, T_p, 10)``, standard normal.

        Returns:
          Actions ``(B, T_p, 10)`` in physical units.
        """
        condition, _ = self.condition(self.encoder(self.normalized_state(robot_state), front, wrist))
        scheduler = inference_scheduler(self.config)
        chunk = noise
        for step in scheduler.timesteps:
            output = self.denoiser(chunk, step.expand(len(chunk)), condition)
            chunk = scheduler.step(output, int(step), chunk, eta=0.0, return_dict=False)[0]
        return self.chunk_normalizer.denormalize(chunk, robot_state)


def views(config: PolicyConfig) -> dict[str, View]:
    """The view of each camera, by name."""
    return {"front": View(config.front), "wrist": View(config.wrist)}
