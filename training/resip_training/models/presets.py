"""The base policies by name, in two sizes: as in the paper's Tables 3 to 5, and sized for two cores."""

from __future__ import annotations

from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Final

from resip.errors import check_name

from resip_training.models.base_policy import BaseConfig, BasePolicy
from resip_training.models.diffusion import DiffusionBase, DiffusionConfig
from resip_training.models.mlp import MlpBase, MlpConfig

_CLASSES: Final[MappingProxyType[str, tuple[Any, Any]]] = MappingProxyType(
    {"mlp": (MlpConfig, MlpBase), "diffusion": (DiffusionConfig, DiffusionBase)}
)

_PAPER_MLP: Final = {"width": 1024, "blocks": 5, "actions": "absolute", "parts": "all"}

#: Settings of each policy: size -> (name of the class, what differs from its defaults).
PRESETS: Final = MappingProxyType(
    {
        "compact": MappingProxyType(
            {
                "mlp-s": ("mlp", {"prediction_horizon": 1, "action_horizon": 1}),
                "mlp-c": ("mlp", {}),
                "dp": ("diffusion", {}),
            }
        ),
        "paper": MappingProxyType(
            {
                "mlp-s": ("mlp", {**_PAPER_MLP, "prediction_horizon": 1, "action_horizon": 1}),
                "mlp-c": ("mlp", _PAPER_MLP),
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
    kind, changes = PRESETS[size][name]
    return _CLASSES[kind][0](**changes)


def config_as_json(config: BaseConfig) -> dict[str, Any]:
    """The settings as plain JSON values, with the name of their class."""
    kind = next(kind for kind, (config_class, _) in _CLASSES.items() if type(config) is config_class)
    return {"kind": kind, **asdict(config)}


def config_from_json(values: dict[str, Any]) -> BaseConfig:
    """Invert `config_as_json`.

    Raises:
      UnknownNameError: settings of a class that does not exist here.
    """
    values = dict(values)
    kind = values.pop("kind")
    check_name("kind of base policy", kind, _CLASSES)
    return _CLASSES[kind][0](**values)


def build(config: BaseConfig, observation_dim: int, columns: list[int]) -> BasePolicy:
    """A base policy with fresh weights; see `BasePolicy`."""
    policy_class = next(policy for config_class, policy in _CLASSES.values() if type(config) is config_class)
    return policy_class(config, observation_dim, columns)
