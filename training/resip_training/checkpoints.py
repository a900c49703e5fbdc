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
from resip.errors import ResipError, check_name
from torch import Tensor, nn

from resip_training.models import presets
from resip_training.models.base_policy import BasePolicy
from resip_training.models.chunk_choice import BestOfSamples, ChunkCritic
from resip_training.models.features import Inputs
from resip_training.models.offpolicy_residual import OffPolicyResidual
from resip_training.models.residual import GaussianResidual
from resip_training.rollout.chunks import ChunkPolicy
from resip_training.rollout.episodes import BaseAgent, StateAgent
from resip_training.rollout.residual_env import Correction
from resip_training.rollout.teacher import Residual, ResidualAgent
from resip_training.runs import CONFIG_FILE, prefixed, read_config, read_weights, with_prefix
from resip_training.sim.env import DEVICES

#: What each algorithm leaves beside its base: the prefix of its weights, and what acts then, in words.
_LEARNED: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "residual-ppo": ("residual.", "base and residual"),
        "residual-offpolicy": ("residual.", "base and residual"),
        "chunk-ppo": ("tuned.", "fine-tuned base"),
        "idql": ("q.", "base chosen by Q"),
    }
)

_NO_CORRECTION: Final = Correction(0.0)


@dataclass(frozen=True)
class Teacher:
    """A policy on states.

    Attributes:
      task: that it was made for.
      randomness: of the episodes that it was made from.
      policy: the base, frozen.
      description: of the base, as a run's configuration has it.
      weights: of all, by name: ``base.``, and those of what was learned on it.
      learned: what acts, in words, or None for a base alone.
      residual: what corrects the base, or None.
      correction: how it is tied to the base.
      planner: what plans chunks in the base's place, fine-tuned or choosing among its samples, or None.
    """

    task: str
    randomness: str
    policy: BasePolicy
    description: dict[str, Any]
    weights: dict[str, Tensor]
    learned: str | None = None
    residual: Residual | None = None
    correction: Correction = _NO_CORRECTION
    planner: ChunkPolicy | None = None

    def agent(self, num_envs: int) -> StateAgent:
        """Acts in ``num_envs`` worlds."""
        if self.residual is not None:
            return ResidualAgent(self.policy, self.residual, self.correction, num_envs)
        return BaseAgent(self.planner or self.policy, num_envs)

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
    algorithm = config["algorithm"]
    if algorithm != "bc" and algorithm not in _LEARNED:
        raise ResipError(
            f"{folder} is a run of {algorithm!r}, which leaves no policy on states: "
            f"choose a run of {', '.join(('bc', *_LEARNED))}"
        )
    weights = prefixed("base.", read_weights(folder, "average." if algorithm == "bc" else "base."))
    if algorithm != "bc":
        prefix, _ = _LEARNED[algorithm]
        weights |= prefixed(prefix, read_weights(folder, prefix))
    if "sha256" in config and sha256(weights) != config["sha256"]:
        raise ResipError(f"{folder} is not what was shipped: its weights have another hash than its {CONFIG_FILE} says")
    base = config["base"]
    policy = presets.build(presets.config_from_json(base["policy"]), Inputs.from_json(base["inputs"]))
    load_weights(folder, policy, with_prefix(weights, "base."), device)
    described = {name: base[name] for name in ("policy", "inputs", "task", "randomness")}
    teacher = Teacher(base["task"], base["randomness"], policy, described, weights)
    return teacher if algorithm == "bc" else _with_learned(teacher, folder, algorithm, config["settings"], device)


def _with_learned(teacher: Teacher, folder: Path, algorithm: str, settings: dict[str, Any], device: str) -> Teacher:
    """The base with what the run in ``folder`` learned on it."""
    prefix, words = _LEARNED[algorithm]
    policy, weights = teacher.policy, with_prefix(teacher.weights, prefix)
    teacher = replace(teacher, learned=words)
    if algorithm == "chunk-ppo":
        tuned = copy.deepcopy(policy)
        load_weights(folder, tuned, with_prefix(weights, "actor.policy."), device)
        return replace(teacher, planner=tuned)
    if algorithm == "idql":
        critic = ChunkCritic(policy, settings["width"], settings["poses"])
        load_weights(folder, critic, weights, device)
        return replace(teacher, planner=BestOfSamples(policy, critic, settings["samples"]))
    correction = Correction(settings["alpha"], settings["poses"])
    residual = _RESIDUALS[algorithm](settings, policy.observe.dim(correction.poses) + spaces.ACTION_DIM)
    load_weights(folder, residual, weights, device)
    return replace(teacher, residual=torch.no_grad()(residual.forward), correction=correction)


def sha256(weights: Mapping[str, Tensor]) -> str:
    """Hash of weights and their names."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _ActorAlone(nn.Module):
    """PPO's residual without its critic, under the names that its weights have."""

    def __init__(self, settings: dict[str, Any], observation_dim: int) -> None:
        super().__init__()
        self.actor = GaussianResidual(
            observation_dim,
            settings["width"],
            settings["log_std"],
            sees_base_action=settings["sees_base_action"],
            whiten=settings.get("whiten", False),  # older runs had no choice
        )

    def forward(self, observation: Tensor) -> Tensor:
        return self.actor(observation)


def _bounded(settings: dict[str, Any], observation_dim: int) -> nn.Module:
    return OffPolicyResidual(
        observation_dim, spaces.ACTION_DIM, settings["width"], settings["critics"], settings["max_q"]
    )


_RESIDUALS: Final = {"residual-ppo": _ActorAlone, "residual-offpolicy": _bounded}


def of_other_shape(module: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Names of a module's weights that are not among ``weights``, or have another shape there."""
    own = module.state_dict()
    return [name for name in own if name not in weights or weights[name].shape != own[name].shape]


def load_weights(folder: Path, module: nn.Module, weights: Mapping[str, Tensor], device: str = "cpu") -> None:
    """Bring a run's weights into a module that acts on ``device`` and learns no more.

    Weights that it has no place for are left: a critic is of no use to one who acts.

    Raises:
      ResipError: they are of another module, or not finite.
    """
    different = of_other_shape(module, weights)
    if different:
        raise ResipError(
            f"{folder} holds weights of another network than its {CONFIG_FILE} says ({different[0]} and "
            f"{len(different) - 1} others differ): it was trained by another version, train again"
        )
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise ResipError(f"the weights in {folder} are not all numbers: {broken[0]} diverged")
    module.load_state_dict({name: weights[name] for name in module.state_dict()})
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


def torch_device(device: str) -> str:
    """Where torch works for worlds on ``device`` (see ``env.DEVICES``).

    Raises:
      ResipError: unknown device, or no GPU.
    """
    kind = device.partition(":")[0]
    check_name("device", kind, DEVICES)
    if kind == "cuda" and not torch.cuda.is_available():
        raise ResipError(f"device {device!r}: torch finds no GPU here")
    return "cpu" if device == "warp-cpu" else device
