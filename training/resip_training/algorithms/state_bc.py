"""Behaviour cloning of a base policy from states (paper 3.1, Table 3).

Every update's random draws follow from the run's seed and the update's number, so a resumed run repeats what an
uninterrupted one would have done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from resip import spaces
from resip.errors import ResipError
from torch import Tensor

from resip_training import distributed
from resip_training.algorithms.cloning import CloningTrainer, check_batch, part_columns
from resip_training.data.store import DemoSet
from resip_training.data.windows import chunk_rows, last_rows, split_episodes, steps_of
from resip_training.models import presets
from resip_training.models.base_policy import BaseConfig, BasePolicy
from resip_training.models.diffusion import DiffusionConfig
from resip_training.models.features import Inputs, goals_of
from resip_training.runs import Figures
from resip_training.sim import tasks

_COMPACT_UPDATES = {"mlp-s": 5_000, "mlp-c": 5_000, "dp": 8_000, "act": 5_000}  # some minutes of one core each
_VALIDATIONS = 5  # over a whole run
_VALIDATION_SAMPLES = 512
_FITTED_AT_ONCE = 65_536  # windows whose limits are taken at once: 20 MB of actions, 100 MB of relative poses


@dataclass(frozen=True)
class StateBCConfig:
    """Settings of behaviour cloning from states; the defaults are those for two cores.

    Attributes:
      policy: one of the base policies.
      batch_size: windows per update.
      learning_rate: peak of AdamW's rate; linear warm-up, then cosine to zero.
      warmup_updates: with rising rate.
      weight_decay: of AdamW.
      ema_decay: of the averaged weights, which are validated and act; 0 takes the latest ones, as the paper does.
      clip_norm: of the gradient.
      held_out: fraction of the demonstrations kept for validation; whole ones, so that none leaks.
      seed: of everything random.
    """

    policy: BaseConfig = field(default_factory=DiffusionConfig)
    batch_size: int = 256
    learning_rate: float = 1e-3
    warmup_updates: int = 200
    weight_decay: float = 1e-3
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    held_out: float = 0.0
    seed: int = 0


def preset(policy: str, size: str, seed: int = 0, action_horizon: int | None = None) -> tuple[StateBCConfig, int]:
    """Settings for a base policy in a size, ``compact`` or ``paper`` (Table 3), and how many updates.

    ``action_horizon`` is T_a, where it is not to be the policy's own.

    Raises:
      UnknownNameError: no such policy or size.
    """
    config = presets.preset(policy, size)
    if action_horizon is not None:
        config = replace(config, action_horizon=action_horizon)
    if size == "paper":
        paper = StateBCConfig(
            config, learning_rate=1e-4, warmup_updates=500, weight_decay=1e-6, ema_decay=0.0, clip_norm=math.inf
        )
        return replace(paper, seed=seed), 400_000
    return StateBCConfig(config, seed=seed), _COMPACT_UPDATES[policy]


@dataclass(frozen=True)
class StateData:
    """Demonstrations in memory; rows are time steps.

    Attributes:
      observation: ``(N, D)``, robot state and all part poses.
      action: ``(N, 10)``.
      last: ``(N,)`` row of the last step of each step's episode.
      inputs: what a policy can be shown.
      train_rows: steps of the training episodes.
      validation_rows: steps of the held-out episodes.
    """

    observation: Tensor
    action: Tensor
    last: Tensor
    inputs: Inputs
    train_rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]


def load_state_data(demos: DemoSet, config: StateBCConfig) -> StateData:
    """Bring a data set's numbers into memory; only episodes that succeeded are learned from.

    Raises:
      ResipError: the set knows no part poses, or has too few successes to hold any out.
    """
    if not demos.knows_parts:
        raise ResipError(f"{demos.path} has no part poses, which a policy on states is shown: choose a simulated set")
    observation = np.concatenate([demos.robot_state, demos.part_poses], axis=1)
    columns = list(range(observation.shape[1]))
    if config.policy.parts == "moving":
        columns = [
            *range(spaces.STATE_DIM),
            *(spaces.STATE_DIM + column for column in part_columns(demos.part_poses, demos.successes)),
        ]
    names = tuple(demos.provenance["part_names"])
    inputs = Inputs(observation.shape[1], tuple(columns), goals_of(tasks.get(demos.provenance["task"]), names))
    train, held_out = split_episodes(demos.seeds, demos.success, config.held_out, config.seed)
    return StateData(
        observation=torch.from_numpy(observation),
        action=torch.from_numpy(demos.action),
        last=last_rows(demos.episodes),
        inputs=inputs,
        train_rows=steps_of(demos.episodes, train),
        validation_rows=steps_of(demos.episodes, held_out) if held_out else np.empty(0, dtype=np.int64),
    )


class StateBCTrainer(CloningTrainer[BasePolicy]):
    """One run of behaviour cloning from states, in memory.

    All demonstrations are on the device from the beginning: there a batch is two lookups, which wait for no worker
    and copy nothing from the host. Processes that share a run each take their rows of every batch.

    Args:
      config: settings.
      data: the demonstrations.
      device: where the policy learns.

    Raises:
      ResipError: fewer steps than a batch, or a batch that the processes cannot share.
    """

    validations = _VALIDATIONS

    def __init__(self, config: StateBCConfig, data: StateData, device: str = "cpu") -> None:
        check_batch(len(data.train_rows), config.batch_size)
        distributed.share(config.batch_size, "windows of a batch")
        torch.manual_seed(config.seed)
        self.config, self.samples_per_step = config, config.batch_size
        self._observation, self._action = data.observation.to(device), data.action.to(device)
        self._last = data.last.to(device)
        self._train_rows = torch.from_numpy(data.train_rows).to(device)
        self._validation_rows = torch.from_numpy(data.validation_rows).to(device)
        policy = presets.build(config.policy, data.inputs).to(device)
        for i, rows in enumerate(self._train_rows.split(_FITTED_AT_ONCE)):
            policy.fit(self._observation[rows], self._chunks(rows), more=i > 0)
        optimizer = torch.optim.AdamW(
            policy.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        super().__init__(policy, optimizer, config.ema_decay)

    def train_step(self, progress: float) -> Figures:
        """Do one update; ``progress`` sets the learning rate."""
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        rate = self.config.learning_rate * self._rate_factor(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        chosen = torch.randint(len(self._train_rows), (self.config.batch_size,), device=self._train_rows.device)
        rows = self._train_rows[distributed.own_rows(chosen)]
        loss = self._loss(self.policy, rows) / distributed.count()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        distributed.add_up_gradients(self.policy)
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self._count_update()
        return {"loss": distributed.added_up(loss.detach()), "learning_rate": rate}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Compare chunks sampled for held-out steps with the demonstrations, over the actions that are executed.

        Returns:
          ``loss/held_out``, ``position_error_mm`` and ``gripper_agreement``; nothing without held-out episodes.
        """
        if len(self._validation_rows) == 0:
            return {}
        torch.manual_seed(self.config.seed)
        count = min(_VALIDATION_SAMPLES, len(self._validation_rows))
        rows = self._validation_rows[np.linspace(0, len(self._validation_rows) - 1, count).astype(int)]
        wanted = self._chunks(rows)
        predicted = self.average.sample(self._observation[rows], torch.randn_like(wanted))
        error = (predicted - wanted)[:, : self.config.policy.action_horizon]
        return {
            "loss/held_out": self._loss(self.average, rows).item(),
            "position_error_mm": 1000 * error[..., spaces.ACTION_POSITION].norm(dim=-1).mean().item(),
            "gripper_agreement": (error[..., spaces.ACTION_GRIPPER].abs() < 1).float().mean().item(),
        }

    def _loss(self, policy: BasePolicy, rows: Tensor) -> Tensor:
        return policy.loss(self._observation[rows], self._chunks(rows))

    def _chunks(self, rows: Tensor) -> Tensor:
        """The actions ``(B, T_p, 10)`` that follow the steps ``rows``."""
        return self._action[chunk_rows(rows, self._last, self.config.policy.prediction_horizon)]

    def _rate_factor(self, progress: float) -> float:
        """Linear warm-up, then cosine to zero."""
        warm = min(1.0, (self.step + 1) / self.config.warmup_updates) if self.config.warmup_updates else 1.0
        return warm * 0.5 * (1 + math.cos(math.pi * progress))
