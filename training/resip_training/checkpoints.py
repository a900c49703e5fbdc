"""Policies on states from a run's folder or a shipped teacher: a base, alone or with its residual."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from resip import spaces
from resip.errors import ResipError
from torch import Tensor, nn

from resip_training.models import presets
from resip_training.models.base_policy import BasePolicy
from resip_training.models.offpolicy_residual import OffPolicyResidual
from resip_training.models.residual import GaussianResidual
from resip_training.rollout.episodes import BaseAgent, StateAgent
from resip_training.rollout.teacher import Residual, ResidualAgent
from resip_training.runs import CONFIG_FILE, prefixed, read_config, read_weights, with_prefix


@dataclass(frozen=True)
class Teacher:
    """A policy on states.

    Attributes:
      task: that it was made for.
      randomness: of the episodes that it was made from.
      policy: the base, frozen.
      residual: its correction, or None.
      alpha: scale of the correction.
      description: of the base, as a run's configuration has it.
      weights: of both, by name: ``base.`` and ``residual.``.
    """

    task: str
    randomness: str
    policy: BasePolicy
    residual: Residual | None
    alpha: float
    description: dict[str, Any]
    weights: dict[str, Tensor]

    def agent(self, num_envs: int) -> StateAgent:
        """Acts in ``num_envs`` worlds."""
        if self.residual is None:
            return BaseAgent(self.policy, num_envs)
        return ResidualAgent(self.policy, self.residual, self.alpha, num_envs)

    def sha256(self) -> str:
        """Hash of all weights."""
        return _sha256(self.weights)

    def base_sha256(self) -> str:
        """Hash of the base's weights."""
        return _sha256(with_prefix(self.weights, "base."))


def is_state_run(folder: Path) -> bool:
    """Whether the run in ``folder`` is of a policy on states."""
    return read_config(folder)["contract"].get("observation") == "state"


def load_teacher(folder: Path) -> Teacher:
    """Load the best policy of a run, or a shipped teacher.

    Raises:
      ResipError: no run, a damaged one, one of another kind, or one under another contract.
    """
    config = read_config(folder)
    _check_contract(folder, config["contract"])
    if config["algorithm"] not in ("bc", *_RESIDUALS):
        raise ResipError(
            f"{folder} is a run of {config['algorithm']!r}, which leaves no base with residual: "
            f"choose a run of bc, {', '.join(_RESIDUALS)}"
        )
    cloned = config["algorithm"] == "bc"
    weights = prefixed("base.", read_weights(folder, "average." if cloned else "base."))
    if not cloned:
        weights |= prefixed("residual.", read_weights(folder, "residual."))
    if "sha256" in config and _sha256(weights) != config["sha256"]:
        raise ResipError(f"{folder} is not what was shipped: its weights have another hash than its {CONFIG_FILE} says")
    base = config["base"]
    policy = presets.build(presets.config_from_json(base["policy"]), base["observation_dim"], base["columns"])
    _load(policy, with_prefix(weights, "base."), folder)
    policy.eval().requires_grad_(False)
    described = {name: base[name] for name in ("policy", "observation_dim", "columns", "task", "randomness")}
    if cloned:
        return Teacher(base["task"], base["randomness"], policy, None, 0.0, described, weights)
    make_residual = _RESIDUALS[config["algorithm"]]
    observation_dim = policy.feature_dim + spaces.ACTION_DIM
    residual = make_residual(config["settings"], observation_dim)
    _load(residual, with_prefix(weights, "residual."), folder)
    alpha = config["residual"]["alpha"]
    return Teacher(base["task"], base["randomness"], policy, _acting(residual), alpha, described, weights)


def _load(module: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Put in the weights that the module has a place for: a residual's critic is of no use to one who acts."""
    own = module.state_dict()
    different = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    if different:
        raise ResipError(
            f"{folder} holds weights of another network than its {CONFIG_FILE} says ({different[0]} and "
            f"{len(different) - 1} others differ): it was trained by another version, train again"
        )
    module.load_state_dict({name: weights[name] for name in own})


def _sha256(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _ActorAlone(nn.Module):
    """PPO's residual without its critic, under the names that its weights have."""

    def __init__(self, settings: dict[str, Any], observation_dim: int) -> None:
        super().__init__()
        seen = settings["sees_base_action"]
        self.actor = GaussianResidual(observation_dim, settings["width"], settings["log_std"], sees_base_action=seen)

    def forward(self, observation: Tensor) -> Tensor:
        return self.actor(observation)


def _bounded(settings: dict[str, Any], observation_dim: int) -> nn.Module:
    return OffPolicyResidual(
        observation_dim, spaces.ACTION_DIM, settings["width"], settings["critics"], settings["max_q"]
    )


_RESIDUALS: Final = {"residual-ppo": _ActorAlone, "residual-offpolicy": _bounded}


def _acting(residual: nn.Module) -> Residual:
    residual.eval().requires_grad_(False)
    return torch.no_grad()(residual.forward)


def _check_contract(folder: Path, recorded: dict[str, Any]) -> None:
    for name, wanted in spaces.contract("state").items():
        if recorded.get(name) != wanted:
            raise ResipError(
                f"{folder} was trained under another contract: its {name} is {recorded.get(name)!r}, here {wanted!r}"
            )
