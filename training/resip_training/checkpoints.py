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
from resip_training.models.residual import GaussianResidual
from resip_training.rollout.episodes import BaseAgent, StateAgent
from resip_training.rollout.teacher import Residual, ResidualAgent
from resip_training.runs import CONFIG_FILE, prefixed, read_config, read_weights, with_prefix

_ALGORITHMS: Final = ("bc", "residual-ppo", "residual-offpolicy")


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
        return sha256(self.weights)

    def base_sha256(self) -> str:
        """Hash of the base's weights."""
        return sha256(with_prefix(self.weights, "base."))


def is_state_run(folder: Path) -> bool:
    """Whether ``folder`` holds a run or a teacher, and of a policy on states."""
    return (folder / CONFIG_FILE).exists() and read_config(folder)["contract"].get("observation") == "state"


def load_teacher(folder: Path, device: str = "cpu") -> Teacher:
    """Load the best policy of a run, or a shipped teacher, to act on a device of torch's.

    Raises:
      ResipError: no run, a damaged one, one of another kind, or one under another contract.
    """
    config = read_config(folder)
    check_contract(folder, config["contract"], "state")
    if config["algorithm"] not in _ALGORITHMS:
        raise ResipError(
            f"{folder} is a run of {config['algorithm']!r}, which leaves no base with residual: "
            f"choose a run of {', '.join(_ALGORITHMS)}"
        )
    cloned = config["algorithm"] == "bc"
    weights = prefixed("base.", read_weights(folder, "average." if cloned else "base."))
    if not cloned:
        weights |= prefixed("residual.", read_weights(folder, "residual."))
    base = config["base"]
    policy = presets.build(presets.config_from_json(base["policy"]), base["observation_dim"], base["columns"])
    load_weights(folder, policy, with_prefix(weights, "base."), device)
    described = {name: base[name] for name in ("policy", "observation_dim", "columns", "task", "randomness")}
    if cloned:
        return Teacher(base["task"], base["randomness"], policy, None, 0.0, described, weights)
    residual = _gaussian_mean(folder, config, with_prefix(weights, "residual.actor."), device)
    alpha = config["residual"]["alpha"]
    return Teacher(base["task"], base["randomness"], policy, residual, alpha, described, weights)


def sha256(weights: Mapping[str, Tensor]) -> str:
    """Hash of weights and their names."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _gaussian_mean(folder: Path, config: dict[str, Any], weights: dict[str, Tensor], device: str) -> Residual:
    observation_dim = config["base"]["observation_dim"] + spaces.ACTION_DIM
    settings = config["settings"]
    actor = GaussianResidual(observation_dim, settings["width"], 0.0, sees_base_action=settings["sees_base_action"])
    load_weights(folder, actor, weights, device)

    def mean(observation: Tensor) -> Tensor:
        """The residual's mean."""
        with torch.no_grad():
            return actor(observation)

    return mean


def load_weights(folder: Path, module: nn.Module, weights: Mapping[str, Tensor], device: str = "cpu") -> None:
    """Bring a run's weights into a module that acts on ``device`` and learns no more.

    Raises:
      ResipError: they are of another module, or not finite.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ResipError(f"the weights in {folder} do not fit its configuration: {reason}") from error
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise ResipError(f"the weights in {folder} are not all numbers: {broken[0]} diverged")
    module.eval().requires_grad_(False).to(device)


def check_contract(folder: Path, recorded: Mapping[str, Any], observation: spaces.Observation) -> None:
    """Refuse a run that was trained under another contract than this one for such observations.

    Raises:
      ResipError: naming the field.
    """
    for name, wanted in spaces.contract(observation).items():
        if recorded.get(name) != wanted:
            raise ResipError(
                f"{folder} was trained under another contract: its {name} is {recorded.get(name)!r}, here {wanted!r}"
            )
