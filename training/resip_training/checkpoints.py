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
from resip_training.runs import prefixed, read_config, read_weights, with_prefix


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
    base = config["base"]
    policy = presets.build(presets.config_from_json(base["policy"]), base["observation_dim"], base["columns"])
    policy.load_state_dict(with_prefix(weights, "base."))
    policy.eval().requires_grad_(False)
    described = {name: base[name] for name in ("policy", "observation_dim", "columns", "task", "randomness")}
    if cloned:
        return Teacher(base["task"], base["randomness"], policy, None, 0.0, described, weights)
    make_residual = _RESIDUALS[config["algorithm"]]
    observation_dim = policy.feature_dim + spaces.ACTION_DIM
    residual = _acting(make_residual(config["settings"], observation_dim, with_prefix(weights, "residual.")))
    alpha = config["residual"]["alpha"]
    return Teacher(base["task"], base["randomness"], policy, residual, alpha, described, weights)


def _sha256(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _gaussian_mean(settings: dict[str, Any], observation_dim: int, weights: dict[str, Tensor]) -> nn.Module:
    actor = GaussianResidual(observation_dim, settings["width"], 0.0, sees_base_action=settings["sees_base_action"])
    actor.load_state_dict(with_prefix(weights, "actor."))
    return actor


def _bounded(settings: dict[str, Any], observation_dim: int, weights: dict[str, Tensor]) -> nn.Module:
    residual = OffPolicyResidual(
        observation_dim, spaces.ACTION_DIM, settings["width"], settings["critics"], settings["max_q"]
    )
    residual.load_state_dict(weights)
    return residual


_RESIDUALS: Final = {"residual-ppo": _gaussian_mean, "residual-offpolicy": _bounded}


def _acting(residual: nn.Module) -> Residual:
    residual.eval().requires_grad_(False)
    return torch.no_grad()(residual.forward)


def _check_contract(folder: Path, recorded: dict[str, Any]) -> None:
    for name, wanted in spaces.contract("state").items():
        if recorded.get(name) != wanted:
            raise ResipError(
                f"{folder} was trained under another contract: its {name} is {recorded.get(name)!r}, here {wanted!r}"
            )
