"""Which network denoises chunks, for policies on states and on images alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from resip import spaces
from resip.errors import check_name
from torch import nn

from resip_training.models.denoiser import Denoiser
from resip_training.models.schedule import PredictionType
from resip_training.models.transformer import Transformer, TransformerConfig
from resip_training.models.unet import Unet, UnetConfig

Backbone = Literal["mlp", "unet", "transformer"]


@dataclass(frozen=True)
class DenoiserConfig:
    """The network that denoises, and the diffusion process; the defaults are sized for two cores.

    Attributes:
      backbone: an ``mlp`` over the whole chunk, or along it the paper's ``unet`` or ``transformer``.
      width: hidden units of the MLP.
      blocks: residual blocks of the MLP.
      unet: architecture of the U-Net.
      transformer: architecture of the transformer.
      diffusion_steps: steps of the training process (DDPM).
      inference_steps: DDIM steps at run time.
      prediction_type: what the network predicts; ``epsilon``, the paper's, needs a far larger training budget.
    """

    backbone: Backbone = "mlp"
    width: int = 256
    blocks: int = 4
    unet: UnetConfig = field(default_factory=UnetConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    diffusion_steps: int = 100
    inference_steps: int = 4
    prediction_type: PredictionType = "sample"


def build_denoiser(config: DenoiserConfig, horizon: int, feature_dim: int) -> nn.Module:
    """The network, with fresh weights: ``(noisy (B, T, 10), step (B,), features (B, C)) -> (B, T, 10)``.

    Args:
      config: which one.
      horizon: actions in a chunk (T).
      feature_dim: length of the observation's features (C).

    Raises:
      UnknownNameError: no such backbone.
      ResipError: sizes that do not fit together.
    """
    check_name("backbone", config.backbone, get_args(Backbone))
    if config.backbone == "unet":
        return Unet(horizon, spaces.ACTION_DIM, feature_dim, config.unet)
    if config.backbone == "transformer":
        return Transformer(horizon, spaces.ACTION_DIM, feature_dim, config.transformer)
    return Denoiser(horizon, spaces.ACTION_DIM, feature_dim, config.width, config.blocks)
