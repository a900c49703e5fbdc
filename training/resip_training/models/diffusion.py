"""Diffusion policy on states: a chunk denoised by a 1-D U-Net or a transformer, or by an MLP where time is short."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from resip_training.models.backbones import DenoiserConfig, build_denoiser
from resip_training.models.base_policy import BaseConfig, BasePolicy
from resip_training.models.features import Inputs
from resip_training.models.schedule import DiffusionProcess


@dataclass(frozen=True)
class DiffusionConfig(BaseConfig, DenoiserConfig):
    """Architecture and diffusion process; the defaults are sized for two cores."""

    prediction_horizon: int = 16


class DiffusionBase(BasePolicy):
    """Denoise a chunk from the observation.

    Args:
      config: architecture and diffusion process.
      inputs: what there is to see.
    """

    def __init__(self, config: DiffusionConfig, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        self.config = config
        self.denoiser = build_denoiser(config, config.prediction_horizon, self.feature_dim)
        self._process = DiffusionProcess(config)

    def chunk_loss(self, features: Tensor, chunk: Tensor) -> Tensor:
        """Error of the denoiser at one random step of the process for each sample."""
        return self._process.losses(self.denoiser, chunk, features).mean()

    @torch.no_grad()
    def predict(self, features: Tensor, noise: Tensor) -> Tensor:
        """Denoise from ``noise``; nothing is kept from one chunk to the next."""
        return self._process.sample(self.denoiser, noise, features)
