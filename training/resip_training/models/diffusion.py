"""Diffusion policy on states: a chunk denoised by a 1-D U-Net, or by an MLP where time is short."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from resip import spaces
from resip.errors import check_name
from torch import Tensor, nn

from resip_training.models import draws
from resip_training.models.base_policy import BaseConfig, BasePolicy
from resip_training.models.denoiser import Denoiser
from resip_training.models.features import Inputs
from resip_training.models.schedule import PredictionType, inference_scheduler, training_scheduler
from resip_training.models.unet import Unet, UnetConfig

Backbone = Literal["mlp", "unet"]


@dataclass(frozen=True)
class DiffusionConfig(BaseConfig):
    """Architecture and diffusion process; the defaults are sized for two cores.

    Attributes:
      backbone: the denoiser: an ``mlp`` over the whole chunk, or the paper's ``unet`` along it.
      width: hidden units of the MLP denoiser.
      blocks: residual blocks of the MLP denoiser.
      unet: architecture of the U-Net.
      diffusion_steps: steps of the training process (DDPM).
      inference_steps: DDIM steps at run time.
      prediction_type: what the denoiser predicts; ``epsilon``, the paper's, needs a far larger training budget.
    """

    backbone: Backbone = "mlp"
    prediction_horizon: int = 16
    width: int = 256
    blocks: int = 4
    unet: UnetConfig = field(default_factory=UnetConfig)
    diffusion_steps: int = 100
    inference_steps: int = 4
    prediction_type: PredictionType = "sample"


class DiffusionBase(BasePolicy):
    """Denoise a chunk from the observation.

    Args:
      config: architecture and diffusion process.
      inputs: what there is to see.
    """

    def __init__(self, config: DiffusionConfig, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        self.config = config
        self.denoiser = _denoiser(config, self.feature_dim)
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
        """Denoise from ``noise`` by DDIM (eta 0); nothing is kept from one chunk to the next."""
        chunk = noise
        for step in self._inference.timesteps:
            output = self.denoiser(chunk, step.to(chunk.device).expand(len(chunk)), features)
            chunk = self._inference.step(output, int(step), chunk, eta=0.0, return_dict=False)[0]
        return chunk


def _denoiser(config: DiffusionConfig, feature_dim: int) -> nn.Module:
    check_name("backbone", config.backbone, get_args(Backbone))
    if config.backbone == "unet":
        return Unet(config.prediction_horizon, spaces.ACTION_DIM, feature_dim, config.unet)
    return Denoiser(config.prediction_horizon, spaces.ACTION_DIM, feature_dim, config.width, config.blocks)
