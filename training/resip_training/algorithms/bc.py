"""Behaviour cloning of a diffusion policy, with the part poses as an auxiliary target.

On a CPU the image encoders cost a hundred times what the denoiser does, and diffusion needs many more draws
than the encoders need images. So a run ends with a refinement: the encoders rest, their features of several
random views of every step are kept, and the denoiser alone learns on from those.

Every step's randomness (batch, shifts, noise) follows from the seed and the step's number alone, so a
resumed run repeats what an uninterrupted one would have done.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from resip import spaces
from torch import Tensor

from resip_training.algorithms.cloning import CloningTrainer, check_batch
from resip_training.data.images import AugmentConfig, augmented_batch, centre_batch, load_views
from resip_training.data.store import DemoSet
from resip_training.data.windows import chunk_rows, split_episodes, steps_of
from resip_training.models.diffusion_policy import DiffusionPolicy, PolicyConfig
from resip_training.models.schedule import training_scheduler

_MOVES_M: Final = 0.02  # a part displaced by more than this within an episode takes part in the task
_VALIDATIONS: Final = 10  # over a whole run
_VALIDATION_STEPS: Final = 256
_VALIDATION_BATCH: Final = 64
_ENCODING_BATCH: Final = 256


@dataclass(frozen=True)
class BCConfig:
    """Settings of behaviour cloning.

    Attributes:
      policy: architecture and diffusion.
      augment: random changes of training images.
      batch_size: observations per step.
      noise_draws: diffusion steps and noises drawn per encoded observation.
      learning_rate: peak of AdamW's rate; linear warm-up, then cosine to zero.
      warmup: fraction of the run with rising rate.
      weight_decay: of AdamW.
      ema_decay: of the averaged weights that are validated and exported.
      parts_weight: weight of the part-pose loss.
      refinement: fraction of the run, at its end, in which the denoiser alone learns.
      refinement_views: random views of every step whose features are kept for it.
      refinement_batch: steps per update in it.
      held_out: fraction of episodes kept for validation.
      precision: of the convolutions in training; bfloat16 is the faster on CPUs that have it.
      seed: of everything random.
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    batch_size: int = 64
    noise_draws: int = 4
    learning_rate: float = 5e-4
    warmup: float = 0.02
    weight_decay: float = 1e-3
    ema_decay: float = 0.999
    parts_weight: float = 1.0
    refinement: float = 0.3
    refinement_views: int = 2
    refinement_batch: int = 512
    held_out: float = 0.06
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    seed: int = 0


@dataclass(frozen=True)
class TrainingData:
    """A data set in memory, as the trainer uses it; rows are time steps.

    Attributes:
      state: ``(N, 16)``.
      action: ``(N, 10)``.
      parts: ``(N, 7 * m)``, poses of the parts that move, and of the obstacle.
      front: ``(N, h, w, 3)`` uint8 views with margins.
      wrist: likewise.
      chunks: ``(N, T_p)`` rows of the actions that follow each step.
      train_rows: steps of the training episodes.
      validation_rows: steps of the held-out episodes.
      held_out_seeds: seeds of the held-out episodes.
    """

    state: Tensor
    action: Tensor
    parts: Tensor
    front: NDArray[np.uint8]
    wrist: NDArray[np.uint8]
    chunks: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]
    held_out_seeds: list[int]


def load_training_data(
    demos: DemoSet, config: BCConfig, on_progress: Callable[[int], None] = lambda _: None
) -> TrainingData:
    """Bring a data set into memory; ``on_progress`` counts frames, two per time step."""
    train, held_out = split_episodes(demos.seeds, config.held_out, config.seed)
    columns = part_columns(demos)
    return TrainingData(
        state=torch.from_numpy(demos.robot_state),
        action=torch.from_numpy(demos.action),
        parts=torch.from_numpy(np.ascontiguousarray(demos.part_poses[:, columns])),
        front=load_views(demos, "front", config.policy.front, on_progress),
        wrist=load_views(demos, "wrist", config.policy.wrist, on_progress),
        chunks=chunk_rows(demos.episodes, config.policy.prediction_horizon),
        train_rows=steps_of(demos.episodes, train),
        validation_rows=steps_of(demos.episodes, held_out) if held_out else np.empty(0, dtype=np.int64),
        held_out_seeds=sorted({int(demos.seeds[i]) for i in held_out}),
    )


def part_columns(demos: DemoSet) -> list[int]:
    """Columns of the part poses worth predicting: parts that some episode moves, and the obstacle."""
    n_bodies = demos.part_poses.shape[1] // spaces.PART_POSE_DIM
    position = demos.part_poses.reshape(-1, n_bodies, spaces.PART_POSE_DIM)[..., :3]
    travel = np.max([np.ptp(position[rows], axis=0).max(axis=-1) for rows in demos.episodes], axis=0)
    chosen = [body for body in range(n_bodies) if travel[body] > _MOVES_M or body == n_bodies - 1]
    return [body * spaces.PART_POSE_DIM + i for body in chosen for i in range(spaces.PART_POSE_DIM)]


class BCTrainer(CloningTrainer[DiffusionPolicy]):
    """One run of behaviour cloning from images, in memory.

    Args:
      config: settings.
      data: the data set in memory.
    """

    def __init__(self, config: BCConfig, data: TrainingData) -> None:
        check_batch(len(data.train_rows), config.batch_size)
        torch.manual_seed(config.seed)
        self.config, self.data = config, data
        self.samples_per_step, self.validations = config.batch_size, _VALIDATIONS
        policy = DiffusionPolicy(config.policy, data.parts.shape[1])
        policy.state_normalizer.fit(data.state)
        policy.chunk_normalizer.fit(data.state, data.action[data.chunks])
        policy.parts_normalizer.fit(data.parts)
        for encoder in (policy.encoder.front, policy.encoder.wrist):
            encoder.low_precision = config.precision == "bfloat16"
        optimizer = torch.optim.AdamW(policy.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        super().__init__(policy, optimizer, config.ema_decay)
        self._scheduler = training_scheduler(config.policy)
        self._conditions: Tensor | None = None  # (views, training steps, condition), in the refinement
        self._epoch_order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the training steps."""
        return len(self.data.train_rows) // self.config.batch_size

    def train_step(self, progress: float) -> dict[str, float]:
        """Do one update.

        Args:
          progress: how much of the run is done, 0 to 1; it sets the learning rate.

        Returns:
          Losses and the rate, by name.
        """
        joint = 1.0 - self.config.refinement
        refining = progress >= joint
        if refining and self._conditions is None:
            self._begin_refinement()
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        phase = (progress - joint) / self.config.refinement if refining else progress / joint
        rate = self.config.learning_rate * _rate_factor(phase, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = self._refinement_losses() if refining else self._losses(self._batch_rows())
        self.optimizer.zero_grad(set_to_none=True)
        (losses["loss/action"] + self.config.parts_weight * losses.get("loss/parts", 0.0)).backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimizer.step()
        self._count_update()
        return {**{name: loss.item() for name, loss in losses.items()}, "learning_rate": rate}

    @torch.no_grad()
    def validate(self, rows: NDArray[np.int64] | None = None) -> dict[str, float]:
        """Sample chunks with the averaged weights for held-out steps and compare with the demonstrations.

        Returns:
          ``position_error_mm`` and ``rotation_entry_error`` over the actions that would be executed (the
          first T_a), ``gripper_agreement`` of them, and ``parts_error_mm``; empty without held-out steps.
        """
        rows = self.data.validation_rows if rows is None else rows
        if len(rows) == 0:
            return {}
        rows = rows[np.linspace(0, len(rows) - 1, min(_VALIDATION_STEPS, len(rows))).astype(int)]
        noise = torch.randn(
            len(rows),
            self.config.policy.prediction_horizon,
            spaces.ACTION_DIM,
            generator=torch.Generator().manual_seed(self.config.seed),
        )
        pieces = range(0, len(rows), _VALIDATION_BATCH)
        results = [
            self._validate_batch(rows[i : i + _VALIDATION_BATCH], noise[i : i + _VALIDATION_BATCH]) for i in pieces
        ]
        weights = [len(rows[i : i + _VALIDATION_BATCH]) for i in pieces]
        return {name: float(np.average([r[name] for r in results], weights=weights)) for name in results[0]}

    def _batch_rows(self) -> NDArray[np.int64]:
        epoch, position = divmod(self.step, self.steps_per_epoch)
        if self._epoch_order[0] != epoch:
            order = np.random.default_rng([self.config.seed, epoch]).permutation(self.data.train_rows)
            self._epoch_order = (epoch, order)
        start = position * self.config.batch_size
        return self._epoch_order[1][start : start + self.config.batch_size]

    def _losses(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        data, policy = self.data, self.policy
        features = self._encode(policy, rows)
        parts = policy.parts_normalizer.normalize(data.parts[rows])
        condition, predicted = policy.condition(features)
        draws = self.config.noise_draws
        return {
            "loss/action": self._action_loss(condition.repeat_interleave(draws, dim=0), np.repeat(rows, draws)),
            "loss/parts": torch.nn.functional.mse_loss(predicted, parts),
        }

    def _encode(self, policy: DiffusionPolicy, rows: NDArray[np.int64]) -> Tensor:
        """Features of randomly changed views of the steps ``rows``."""
        data, config = self.data, self.config
        return policy.encoder(
            policy.normalized_state(data.state[rows]),
            augmented_batch(data.front, rows, config.policy.front, config.augment),
            augmented_batch(data.wrist, rows, config.policy.wrist, config.augment),
        )

    def _action_loss(self, condition: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Error of the denoised chunks of ``rows``, each at one random diffusion step."""
        config, data, policy = self.config.policy, self.data, self.policy
        clean = policy.chunk_normalizer.normalize(data.action[data.chunks[rows]], data.state[rows])
        noise = torch.randn_like(clean)
        step = torch.randint(0, config.diffusion_steps, (len(clean),))
        noisy = self._scheduler.add_noise(clean, noise, step)  # pyright: ignore[reportArgumentType] (its IntTensor is any)
        target = clean if config.prediction_type == "sample" else noise
        predicted = policy.denoiser(noisy, step, condition)
        return torch.nn.functional.mse_loss(predicted, target)

    @torch.no_grad()
    def _begin_refinement(self) -> None:
        """Put the averaged encoders to rest and keep their features; repeated alike when a run is resumed."""
        for name in ("encoder", "parts_head"):
            getattr(self.policy, name).load_state_dict(getattr(self.average, name).state_dict())
            getattr(self.policy, name).requires_grad_(False)
        torch.manual_seed(self.config.seed)
        pieces = np.array_split(self.data.train_rows, max(1, len(self.data.train_rows) // _ENCODING_BATCH))
        views = range(self.config.refinement_views)
        self._conditions = torch.stack([torch.cat([self._condition(rows) for rows in pieces]) for _ in views])

    def _condition(self, rows: NDArray[np.int64]) -> Tensor:
        return self.policy.condition(self._encode(self.policy, rows))[0]

    def _refinement_losses(self) -> dict[str, Tensor]:
        assert self._conditions is not None
        index = torch.randint(0, len(self.data.train_rows), (self.config.refinement_batch,))
        view = torch.randint(0, self.config.refinement_views, index.shape)
        return {"loss/action": self._action_loss(self._conditions[view, index], self.data.train_rows[index.numpy()])}

    def _validate_batch(self, rows: NDArray[np.int64], noise: Tensor) -> dict[str, float]:
        data, policy = self.data, self.average
        front = centre_batch(data.front, rows, self.config.policy.front)
        wrist = centre_batch(data.wrist, rows, self.config.policy.wrist)
        executed = self.config.policy.action_horizon
        predicted = policy.sample(data.state[rows], front, wrist, noise)[:, :executed]
        wanted = data.action[data.chunks[rows]][:, :executed]
        error = predicted - wanted
        gripper = predicted[..., spaces.ACTION_GRIPPER].sign() == wanted[..., spaces.ACTION_GRIPPER].sign()
        features = policy.encoder(policy.normalized_state(data.state[rows]), front, wrist)
        parts = policy.parts_normalizer.denormalize(policy.parts_head(features)) - data.parts[rows]
        parts_position = parts.reshape(len(rows), -1, spaces.PART_POSE_DIM)[..., :3]
        return {
            "position_error_mm": 1000 * error[..., spaces.ACTION_POSITION].norm(dim=-1).mean().item(),
            "rotation_entry_error": error[..., spaces.ACTION_ROT6D].abs().mean().item(),
            "gripper_agreement": gripper.float().mean().item(),
            "parts_error_mm": 1000 * parts_position.norm(dim=-1).mean().item(),
        }


def _rate_factor(progress: float, warmup: float) -> float:
    """Linear warm-up, then cosine to zero."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))
