"""The base policies by name, in two sizes: as in the paper's Tables 3 to 5, and sized for two cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

from resip.errors import ResipError, check_name

from resip_training.models.act import ActBase, ActConfig
from resip_training.models.base_policy import BaseConfig, BasePolicy
from resip_training.models.diffusion import DiffusionBase, DiffusionConfig
from resip_training.models.features import Inputs
from resip_training.models.mlp import MlpBase, MlpConfig
from resip_training.models.transformer import TransformerConfig
from resip_training.models.unet import PAPER_UNET, UnetConfig

T = TypeVar("T", BaseConfig, UnetConfig, TransformerConfig)

_CLASSES: Final[Mapping[str, tuple[Any, Any]]] = MappingProxyType(
    {"mlp": (MlpConfig, MlpBase), "diffusion": (DiffusionConfig, DiffusionBase), "act": (ActConfig, ActBase)}
)

_PAPER_MLP: Final = MlpConfig(
    actions="absolute", parts="all", poses="absolute", prediction_horizon=8, width=1024, blocks=5
)
_PAPER_DIFFUSION: Final = DiffusionConfig(
    actions="absolute",
    parts="all",
    poses="absolute",
    prediction_horizon=32,
    backbone="unet",
    unet=PAPER_UNET,
    diffusion_steps=100,
    inference_steps=4,
    prediction_type="epsilon",
)
# Of ACT's own paper: this paper has no table of it. A chunk of 2 s is 20 actions here; of the seven decoder
# layers that it sets, its code uses the output of the first alone.
_PAPER_ACT: Final = ActConfig(
    actions="absolute",
    parts="all",
    poses="absolute",
    prediction_horizon=20,
    width=512,
    heads=8,
    feedforward=3200,
    encoder_layers=4,
    decoder_layers=1,
    latent_dim=32,
    kl_weight=10.0,
)

#: Settings by size and name; every policy executes 8 actions of a chunk, but for MLP-S that has no more than one.
PRESETS: Final[Mapping[str, Mapping[str, BaseConfig]]] = MappingProxyType(
    {
        "compact": MappingProxyType(
            {
                "mlp-s": MlpConfig(prediction_horizon=1, action_horizon=1),
                "mlp-c": MlpConfig(),
                "dp": DiffusionConfig(),
                "act": ActConfig(),
            }
        ),
        "paper": MappingProxyType(
            {
                "mlp-s": replace(_PAPER_MLP, prediction_horizon=1, action_horizon=1),
                "mlp-c": _PAPER_MLP,
                "dp": _PAPER_DIFFUSION,
                "act": _PAPER_ACT,
            }
        ),
    }
)


def preset(name: str, size: str) -> BaseConfig:
    """The settings of a base policy.

    Raises:
      UnknownNameError: no such policy or size.
    """
    check_name("preset", size, PRESETS)
    check_name("base policy", name, PRESETS[size])
    return PRESETS[size][name]


def config_as_json(config: BaseConfig) -> dict[str, Any]:
    """The settings as plain JSON values, with the name of their class."""
    kind = next(kind for kind, (config_class, _) in _CLASSES.items() if type(config) is config_class)
    return {"kind": kind, **asdict(config)}


def config_from_json(values: dict[str, Any]) -> BaseConfig:
    """Invert `config_as_json`.

    Raises:
      UnknownNameError: a class or a setting that does not exist here.
    """
    values = dict(values)
    kind = values.pop("kind")
    check_name("kind of base policy", kind, _CLASSES)
    return _restored(_CLASSES[kind][0], with_networks(values))


def with_networks(values: dict[str, Any]) -> dict[str, Any]:
    """The same JSON values with the architectures of denoisers among them restored; older files may lack some.

    Raises:
      UnknownNameError: a setting that does not exist here.
    """
    kinds: dict[str, Any] = {"unet": UnetConfig, "transformer": TransformerConfig}
    return {name: _restored(kinds[name], value) if name in kinds else value for name, value in values.items()}


def build(config: BaseConfig, inputs: Inputs) -> BasePolicy:
    """A base policy with fresh weights; see `BasePolicy`.

    Raises:
      ResipError: settings that do not fit together.
    """
    check_horizons(config.action_horizon, config.prediction_horizon)
    policy_class: Any = next(policy for config_class, policy in _CLASSES.values() if type(config) is config_class)
    return policy_class(config, inputs)


def check_horizons(action_horizon: int, prediction_horizon: int) -> None:
    """Reject more executed actions (T_a) than a chunk has (T_p), and none.

    Raises:
      ResipError: with both numbers.
    """
    if not 0 < action_horizon <= prediction_horizon:
        raise ResipError(f"an action horizon of {action_horizon} does not fit chunks of {prediction_horizon} actions")


def _restored(config_class: type[T], values: dict[str, Any]) -> T:
    """Settings from JSON values, whose lists were tuples."""
    for name in values:
        check_name(f"setting of {config_class.__name__}", name, [field.name for field in fields(config_class)])
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return config_class(**settings)
