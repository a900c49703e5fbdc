"""Policies on states from a run's folder or a shipped teacher: a base, alone or with what was learned on it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from resip import spaces
from resip.errors import ResipError
from torch import Tensor

from resip_training.models import presets
from resip_training.models.base_policy import BasePolicy
from resip_training.models.chunk_choice import BestOfSamples, ChunkCritic
from resip_training.models.residual import GaussianResidual
from resip_training.rollout.chunks import ChunkPolicy
from resip_training.rollout.episodes import BaseAgent, StateAgent
from resip_training.rollout.teacher import Residual, ResidualAgent
from resip_training.runs import prefixed, read_config, read_weights, with_prefix

#: What each algorithm leaves beside its base: the prefix of its weights, and what acts then, in words.
_LEARNED: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "residual-ppo": ("residual.", "base and residual"),
        "residual-offpolicy": ("residual.", "base and residual"),
        "chunk-ppo": ("tuned.", "fine-tuned base"),
        "idql": ("q.", "base chosen by Q"),
    }
)


@dataclass(frozen=True)
class Teacher:
    """A policy on states.

    Attributes:
      task: that it was made for.
      randomness: of the episodes that it was made from.
      policy: the base, frozen.
      residual: its correction, or None.
      alpha: scale of the correction.
      planner: what plans chunks in the base's place, fine-tuned or choosing among its samples, or None.
      learned: what acts, in words, or None for a base alone.
      description: of the base, as a run's configuration has it.
      weights: of all, by name: ``base.``, and those of what was learned on it.
    """

    task: str
    randomness: str
    policy: BasePolicy
    description: dict[str, Any]
    weights: dict[str, Tensor]
    learned: str | None = None
    residual: Residual | None = None
    alpha: float = 0.0
    planner: ChunkPolicy | None = None

    def agent(self, num_envs: int) -> StateAgent:
        """Acts in ``num_envs`` worlds."""
        if self.residual is not None:
            return ResidualAgent(self.policy, self.residual, self.alpha, num_envs)
        return BaseAgent(self.planner or self.policy, num_envs)

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
    algorithm = config["algorithm"]
    if algorithm != "bc" and algorithm not in _LEARNED:
        raise ResipError(
            f"{folder} is a run of {algorithm!r}, which leaves no policy on states: "
            f"choose a run of {', '.join(('bc', *_LEARNED))}"
        )
    weights = prefixed("base.", read_weights(folder, "average." if algorithm == "bc" else "base."))
    base = config["base"]
    policy = presets.build(presets.config_from_json(base["policy"]), base["observation_dim"], base["columns"])
    policy.load_state_dict(with_prefix(weights, "base."))
    policy.eval().requires_grad_(False)
    described = {name: base[name] for name in ("policy", "observation_dim", "columns", "task", "randomness")}
    teacher = Teacher(base["task"], base["randomness"], policy, described, weights)
    return teacher if algorithm == "bc" else _with_learned(teacher, folder, config)


def _with_learned(teacher: Teacher, folder: Path, config: dict[str, Any]) -> Teacher:
    """The base with what the run in ``folder`` learned on it."""
    prefix, words = _LEARNED[config["algorithm"]]
    weights, settings = read_weights(folder, prefix), config["settings"]
    teacher = replace(teacher, learned=words, weights=teacher.weights | prefixed(prefix, weights))
    if config["algorithm"] == "chunk-ppo":
        tuned = copy.deepcopy(teacher.policy)
        tuned.load_state_dict(with_prefix(weights, "actor.policy."))
        return replace(teacher, planner=tuned)
    if config["algorithm"] == "idql":
        critic = ChunkCritic(teacher.policy, settings["width"])
        critic.load_state_dict(weights)
        return replace(teacher, planner=BestOfSamples(teacher.policy, critic, settings["samples"]))
    residual = _gaussian_mean(config, with_prefix(weights, "actor."))
    return replace(teacher, residual=residual, alpha=config["residual"]["alpha"])


def _sha256(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _gaussian_mean(config: dict[str, Any], weights: dict[str, Tensor]) -> Residual:
    observation_dim = config["base"]["observation_dim"] + spaces.ACTION_DIM
    settings = config["settings"]
    actor = GaussianResidual(observation_dim, settings["width"], 0.0, sees_base_action=settings["sees_base_action"])
    actor.load_state_dict(weights)
    actor.eval().requires_grad_(False)

    def mean(observation: Tensor) -> Tensor:
        """The residual's mean."""
        with torch.no_grad():
            return actor(observation)

    return mean


def _check_contract(folder: Path, recorded: dict[str, Any]) -> None:
    for name, wanted in spaces.contract("state").items():
        if recorded.get(name) != wanted:
            raise ResipError(
                f"{folder} was trained under another contract: its {name} is {recorded.get(name)!r}, here {wanted!r}"
            )
