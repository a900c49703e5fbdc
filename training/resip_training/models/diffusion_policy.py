"""An RGB diffusion policy: two image encoders, proprioception, and a denoised action chunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args

import torch
from resip import spaces
from resip.errors import check_name
from torch import Tensor, nn

from resip_training.models.backbones import DenoiserConfig, build_denoiser
from resip_training.models.encoder import ImageEncoder, View, ViewConfig
from resip_training.models.normalizer import AbsoluteChunkNormalizer, ChunkNormalizer, Normalizer
from resip_training.models.presets import with_networks
from resip_training.models.resized_view import ResizedView, ResizedViewConfig
from resip_training.models.resnet import Norm, ResNetEncoder
from resip_training.models.schedule import DiffusionProcess
from resip_training.models.unet import PAPER_UNET

_STATE_LIMIT: Final = 3.0  # normalised proprioception is clamped here, as in the reference implementation

Encoder = Literal["compact", "resnet18"]
WristView = Literal["whole", "centre"]

#: The whole wrist image at half resolution, or what lies between and before the fingers, at full resolution.
WRIST_VIEWS: Final[Mapping[WristView, ViewConfig]] = {
    "whole": ViewConfig(top=0, left=0, height=240, width=320, reduction=2),
    "centre": ViewConfig(top=44, left=64, height=136, width=192),
}


@dataclass(frozen=True)
class PolicyConfig(DenoiserConfig):
    """Architecture and diffusion settings; the defaults are sized for two cores.

    Attributes:
      front: what is seen of the front image: the workspace at full resolution, where insertion is judged.
      wrist: what is seen of the wrist image: of the compact policy one of `WRIST_VIEWS`.
      encoder: of each camera, ``compact`` (see `ImageEncoder`) or ``resnet18``.
      norm: of the ResNet.
      feature_dim: features per camera.
      predicts_parts: whether the poses of the parts are predicted on the way, see `DiffusionPolicy`.
      actions: inside the network, ``relative`` to the present pose or ``absolute``, see `BaseConfig`.
      observation_horizon: observations per prediction (T_o).
      prediction_horizon: actions per chunk (T_p).
      action_horizon: actions executed before the next chunk is asked for (T_a).
    """

    front: ViewConfig | ResizedViewConfig = field(
        default_factory=lambda: ViewConfig(top=80, left=32, height=136, width=264)
    )
    wrist: ViewConfig | ResizedViewConfig = field(default_factory=lambda: WRIST_VIEWS["whole"])
    encoder: Encoder = "compact"
    norm: Norm = "batch"
    feature_dim: int = 128
    predicts_parts: bool = True
    actions: Literal["relative", "absolute"] = "relative"
    width: int = 384
    observation_horizon: int = 1
    prediction_horizon: int = 32
    action_horizon: int = 8
    inference_steps: int = 8

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PolicyConfig:
        """From plain JSON values, as `dataclasses.asdict` gives them.

        Raises:
          UnknownNameError: a setting that does not exist here.
        """
        for name in values:
            check_name("setting of PolicyConfig", name, [setting.name for setting in fields(cls)])
        seen = {camera: _view_config(values[camera]) for camera in spaces.CAMERAS}
        return cls(**{**with_networks(dict(values)), **seen})


#: Tables 10 to 12. Horizons are Table 4's, for no other is given; 8 DDIM steps are those of the reference's robot.
PAPER: Final = PolicyConfig(
    front=ResizedViewConfig(height=240, width=280),
    wrist=ResizedViewConfig(height=224, width=224),
    encoder="resnet18",
    predicts_parts=False,
    actions="absolute",
    backbone="transformer",
    unet=PAPER_UNET,
    prediction_type="epsilon",
)

#: What of the compact encoders another view changes the shape of; whoever takes over the rest learns these anew.
SIZED_BY_THE_VIEW: Final = frozenset(f"{camera}.head.0.weight" for camera in spaces.CAMERAS)


def part_poses_dim(weights: Mapping[str, Tensor]) -> int:
    """How many numbers of the part poses a `DiffusionPolicy` with such weights, by name, predicts on the way."""
    biases = [value for name, value in weights.items() if name.startswith("parts_head.") and value.dim() == 1]
    return len(biases[-1]) if biases else 0


class ObservationEncoder(nn.Module):
    """Normalised proprioception and both views to one feature vector.

    Raises:
      UnknownNameError: no such encoder.
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.front = _image_encoder(config, config.front)
        self.wrist = _image_encoder(config, config.wrist)
        self.dim = spaces.STATE_DIM + 2 * config.feature_dim

    def forward(self, state: Tensor, front: Tensor, wrist: Tensor) -> Tensor:
        """Encode ``(B, 16)`` and two views ``(B, 3, h, w)`` as ``(B, dim)``."""
        return torch.cat([state, self.front(front), self.wrist(wrist)], dim=-1)


class DiffusionPolicy(nn.Module):
    """Predict a chunk of absolute actions from one observation.

    Part poses, which simulation knows, can be predicted from the features and given to the denoiser beside them: it
    then works from coordinates, as a policy on states does. Inside, a chunk can be relative to the present
    end-effector pose (see `ChunkNormalizer`): what is learned is where to go from here.

    Args:
      config: architecture and diffusion settings.
      part_poses_dim: numbers of the part poses that are predicted on the way; 0 for none.
    """

    def __init__(self, config: PolicyConfig, part_poses_dim: int) -> None:
        super().__init__()
        self.config = config
        self.state_normalizer = Normalizer(spaces.STATE_DIM)
        relative = config.actions == "relative"
        self.chunk_normalizer = ChunkNormalizer(config.prediction_horizon) if relative else AbsoluteChunkNormalizer()
        self.parts_normalizer = Normalizer(part_poses_dim)
        self.encoder = ObservationEncoder(config)
        self.denoiser = build_denoiser(config, config.prediction_horizon, self.encoder.dim + part_poses_dim)
        self.parts_head = None
        if part_poses_dim:
            self.parts_head = nn.Sequential(nn.Linear(self.encoder.dim, 256), nn.SiLU(), nn.Linear(256, part_poses_dim))
        self.process = DiffusionProcess(config)

    @property
    def image_encoders(self) -> tuple[ImageEncoder | ResNetEncoder, ...]:
        """The encoder of each camera."""
        return self.encoder.front, self.encoder.wrist

    def normalized_state(self, robot_state: Tensor) -> Tensor:
        """Normalise and clamp robot states ``(B, 16)``."""
        return self.state_normalizer.normalize(robot_state).clamp(-_STATE_LIMIT, _STATE_LIMIT)

    def condition(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What the denoiser works from, ``(B, encoder.dim + part poses)``, and the normalised part poses in it."""
        if self.parts_head is None:
            return features, features[:, :0]
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
        chunk = self.process.sample(self.denoiser, noise, condition)
        return self.chunk_normalizer.denormalize(chunk, robot_state)


def views(config: PolicyConfig) -> dict[str, View | ResizedView]:
    """The view of each camera, by name."""
    return {"front": _view(config.front), "wrist": _view(config.wrist)}


def _view(config: ViewConfig | ResizedViewConfig) -> View | ResizedView:
    return View(config) if isinstance(config, ViewConfig) else ResizedView(config)


def _view_config(values: Mapping[str, Any]) -> ViewConfig | ResizedViewConfig:
    """Restore a view's settings; only one kind has a crop."""
    return ResizedViewConfig(**values) if "crop" in values else ViewConfig(**values)


def _image_encoder(config: PolicyConfig, view: ViewConfig | ResizedViewConfig) -> ImageEncoder | ResNetEncoder:
    check_name("encoder", config.encoder, get_args(Encoder))
    if config.encoder == "resnet18":
        return ResNetEncoder(config.feature_dim, config.norm)
    return ImageEncoder(view.input_size, config.feature_dim)
