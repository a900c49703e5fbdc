"""Diffusion policy on states: a chunk denoised by a 1-D U-Net, or by an MLP where time is short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from resip import spaces
from torch import Tensor, nn

from resip_training.models import draws
from resip_training.models.base_policy import BaseConfig, BasePolicy
from resip_training.models.denoiser import Denoiser
from resip_training.models.schedule import PredictionType, inference_scheduler, training_scheduler


@dataclass(frozen=True)
class DiffusionConfig(BaseConfig):
    """Architecture and diffusion process; the defaults are sized for two cores.

    Attributes:
      width: hidden units of the MLP denoiser.
      blocks: residual blocks of the MLP denoiser.
      diffusion_steps: steps of the training process (DDPM).
      inference_steps: DDIM steps at run time.
      prediction_type: what the denoiser predicts; ``epsilon``, the paper's, needs a far larger training budget.
    """

    width: int = 384
    blocks: int = 4
    diffusion_steps: int = 100
    inference_steps: int = 4
    prediction_type: PredictionType = "sample"


class DiffusionBase(BasePolicy):
    """Denoise a chunk from the observation.

    Args:
      config: architecture and diffusion process.
      observation_dim: see `BasePolicy`.
      columns: see `BasePolicy`.
    """

    def __init__(self, config: DiffusionConfig, observation_dim: int, columns: Sequence[int]) -> None:
        super().__init__(config, observation_dim, columns)
        self.config = config
        self.denoiser: nn.Module = Denoiser(
            config.prediction_horizon, spaces.ACTION_DIM, self.feature_dim, config.width, config.blocks
        )
        self._training = training_scheduler(config)
        self._inference = inference_scheduler(config)

    def chunk_loss(self, features: Tensor, chunk: Tensor) -> Tensor:
        """Error of the denoiser at one random step of the process for each sample."""
        noise = draws.randn_like(chunk)
        step = draws.randint(self.config.diffusion_steps, chunk)
        noisy = self._training.add_noise(chunk, noise, step)  # pyright: ignore[reportArgumentType] (its IntTensor is any)
        target = chunk if self.config.prediction_type == "sample" else noise
        return torch.nn.functional.mse_loss(self.denoiser(noisy, step, features), target)

    @torch.no_grad()
    def predict(self, features: Tensor, noise: Tensor) -> Tensor:
        """Denoise from ``noise`` by DDIM (eta 0)."""
        chunk = noise
        for step in self._inference.timesteps:
            output = self.denoiser(chunk, step.to(chunk.device).expand(len(chunk)), features)
            chunk = self._inference.step(output, int(step), chunk, eta=0.0, return_dict=False)[0]
        return chunk
