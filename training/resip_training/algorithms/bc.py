"""Behaviour cloning of a diffusion policy on images, from simulation, from the real cell, or from both.

On a CPU the image encoders cost a hundred times what the denoiser does, and diffusion needs many more draws
than the encoders need images. So a run of the compact preset ends with a refinement: the encoders rest, their features
of several random views of every step are kept, and the denoiser alone learns on from those.

Part poses, which simulation alone knows, are an auxiliary target: of the steps that have them.

Every step's randomness (batch, shifts, noise) follows from the seed and the step's number alone, so a
resumed run repeats what an uninterrupted one would have done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from resip import spaces
from resip.errors import ResipError, check_name
from torch import Tensor

from resip_training.algorithms.cloning import CloningTrainer, check_batch, part_columns
from resip_training.checkpoints import of_other_shape
from resip_training.data.frames import FrameLoader, FrameReader, Frames, Sampling
from resip_training.data.images import AugmentConfig, PaperAugmentConfig, augmentation
from resip_training.data.mixture import Domain, Mixture
from resip_training.data.windows import chunk_rows, last_rows
from resip_training.models.backbones import Backbone
from resip_training.models.diffusion_policy import (
    PAPER,
    WRIST_VIEWS,
    DiffusionPolicy,
    PolicyConfig,
    WristView,
    part_poses_dim,
    views,
)
from resip_training.models.resnet import Norm, ResNetEncoder, load_weights
from resip_training.runs import Figures

_VALIDATIONS: Final = 10  # over a whole run
_VALIDATION_STEPS: Final = 256
_BATCH_WITHOUT_GRADIENT: Final = 64
_FITTED_AT_ONCE: Final = 65_536
_PAPER_UPDATES: Final = 500_000


@dataclass(frozen=True)
class BCConfig:
    """Settings of behaviour cloning on images; the defaults are those for two cores.

    Attributes:
      policy: architecture and diffusion.
      front_augment: random changes of the front camera's training images.
      wrist_augment: of the wrist camera's.
      batch_size: observations per step.
      noise_draws: diffusion steps and noises drawn per encoded observation.
      learning_rate: peak of AdamW's rate; linear warm-up, then cosine to zero.
      warmup: fraction of the run with rising rate.
      encoder_learning_rate: peak of that of the image encoders; None takes the same for both.
      encoder_warmup: fraction of the run in which that rises.
      freeze_encoder: leave the ResNets as their weights were loaded; their projections learn.
      weight_decay: of AdamW.
      clip_norm: of the gradient.
      ema_decay: of the averaged weights, which are validated and exported; 0 takes the latest ones.
      parts_weight: weight of the part-pose loss.
      refinement: fraction of the run, at its end, in which the denoiser alone learns.
      refinement_views: random views of every step whose features are kept for it.
      refinement_batch: steps per update in it.
      real_share: of the observations, those of the real domain; None draws every observation as often.
      real_weight: of a real observation in the loss, where a simulated one has 1.
      held_out: fraction of each domain's demonstrations kept for validation; whole ones, so that none leaks.
      precision: of the image encoders in training; bfloat16 is used where the machine has units for it, see
        `has_bfloat16`.
      memory_gb: that training images may take; those of larger data sets are read while training goes on.
      seed: of everything random.
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    front_augment: AugmentConfig | PaperAugmentConfig = field(default_factory=AugmentConfig)
    wrist_augment: AugmentConfig | PaperAugmentConfig = field(default_factory=AugmentConfig)
    batch_size: int = 64
    noise_draws: int = 4
    learning_rate: float = 5e-4
    warmup: float = 0.02
    encoder_learning_rate: float | None = None
    encoder_warmup: float = 0.02
    freeze_encoder: bool = False
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    parts_weight: float = 1.0
    refinement: float = 0.3
    refinement_views: int = 2
    refinement_batch: int = 512
    real_share: float | None = None
    real_weight: float = 1.0
    held_out: float = 0.06
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    memory_gb: float = 8.0
    seed: int = 0


#: Tables 10 to 12, in 500 000 updates: warm-ups of 1000 and 5000.
_PAPER: Final = BCConfig(
    policy=PAPER,
    front_augment=PaperAugmentConfig(),
    wrist_augment=PaperAugmentConfig(erased=0.0),
    batch_size=256,
    noise_draws=1,
    learning_rate=1e-4,
    warmup=1000 / _PAPER_UPDATES,
    encoder_learning_rate=1e-5,
    encoder_warmup=5000 / _PAPER_UPDATES,
    weight_decay=1e-3,
    clip_norm=math.inf,
    ema_decay=0.0,
    refinement=0.0,
)
_SIZES: Final[Mapping[str, BCConfig]] = {"compact": BCConfig(), "paper": _PAPER}


def preset(
    size: str,
    backbone: Backbone | None = None,
    norm: Norm = "batch",
    wrist_view: WristView | None = None,
    shift_px: int | None = None,
) -> tuple[BCConfig, int | None]:
    """Settings in a size, ``compact`` or ``paper`` (Tables 10 to 12), and how many updates where that is given.

    Args:
      size: of the two.
      backbone: the denoiser, where it is not the preset's; the U-Net of the paper is that of Table 4.
      norm: of ResNets.
      wrist_view: what the compact policy sees of the wrist image, if not the whole.
      shift_px: how far its training images are shifted, if not as by default.

    Raises:
      UnknownNameError: no such size.
      ResipError: a view or a shift for the paper's policy, which has its own.
    """
    check_name("preset", size, _SIZES)
    config = _SIZES[size]
    policy = replace(config.policy, backbone=backbone or config.policy.backbone, norm=norm)
    config = replace(config, policy=policy)
    if size != "compact" and (wrist_view, shift_px) != (None, None):
        raise ResipError(f"the {size} preset has views and shifts of its own: give neither with it")
    if wrist_view is not None:
        config = replace(config, policy=replace(policy, wrist=WRIST_VIEWS[wrist_view]))
    if shift_px is not None:
        shifted = AugmentConfig(shift_px=shift_px)
        config = replace(config, front_augment=shifted, wrist_augment=shifted)
    return config, _PAPER_UPDATES if size == "paper" else None


@dataclass(frozen=True)
class TrainingData:
    """A mixture of data sets, as the trainer uses it; rows are time steps.

    Attributes:
      state: ``(N, 16)``.
      action: ``(N, 10)``.
      parts: ``(N, 7 * m)``, poses of the parts that move, and of the obstacle; of width 0 if none are learned.
      last: ``(N,)`` row of the last step of each step's episode.
      knows_parts: ``(N,)`` whether ``parts`` means anything.
      is_real: ``(N,)`` whether the step is of the real domain.
      domains: those that there are.
      train_rows: steps of the training episodes.
      validation_rows: steps of the held-out episodes.
      frames: reads the camera frames.
    """

    state: Tensor
    action: Tensor
    parts: Tensor
    last: Tensor
    knows_parts: NDArray[np.bool_]
    is_real: NDArray[np.bool_]
    domains: tuple[Domain, ...]
    train_rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]
    frames: FrameReader

    def rows_by_domain(self, rows: NDArray[np.int64]) -> dict[Domain, NDArray[np.int64]]:
        """Those of ``rows`` that are of each domain, where it has some."""
        real = self.is_real[rows]
        of = {"sim": rows[~real], "real": rows[real]}
        return {domain: of[domain] for domain in self.domains if len(of[domain])}


def load_training_data(mixture: Mixture, config: BCConfig) -> TrainingData:
    """Bring the numbers of a mixture into memory, and make ready to read its images.

    Raises:
      ResipError: too few demonstrations to hold any out.
    """
    train, held_out = mixture.split(config.held_out, config.seed)
    poses = mixture.part_poses
    if config.policy.predicts_parts and mixture.knows_parts.any():
        succeeded = [rows for rows, success in zip(mixture.episodes, mixture.success, strict=True) if success]
        knowing = [rows for rows in succeeded if mixture.knows_parts[rows.start]]
        poses = poses[:, part_columns(poses, knowing)]
    else:
        poses = poses[:, :0]
    return TrainingData(
        state=torch.from_numpy(mixture.robot_state),
        action=torch.from_numpy(mixture.action),
        parts=torch.from_numpy(np.ascontiguousarray(poses)),
        last=last_rows(mixture.episodes),
        knows_parts=mixture.knows_parts,
        is_real=mixture.is_real,
        domains=mixture.domains,
        train_rows=train,
        validation_rows=held_out,
        frames=FrameReader(mixture, views(config.policy)),
    )


class BCTrainer(CloningTrainer[DiffusionPolicy]):
    """One run of behaviour cloning from images.

    Args:
      config: settings.
      data: what to learn from.
      encoder_weights: what the encoders begin with: a file for the ResNets, or another policy's encoders by name;
        what they lack stays random, and None leaves all so.
      begin_with: weights by name that the whole policy begins with, normalisation included.
      device: where the policy learns.
      on_progress: counts the frames that are read before training begins, of both cameras.

    Raises:
      ResipError: fewer steps than a batch, settings or weights that do not fit, or too little memory.
    """

    def __init__(
        self,
        config: BCConfig,
        data: TrainingData,
        *,
        encoder_weights: Path | Mapping[str, Tensor] | None = None,
        begin_with: Mapping[str, Tensor] | None = None,
        device: str = "cpu",
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        check_batch(len(data.train_rows), config.batch_size)
        torch.manual_seed(config.seed)
        self.config, self.data, self._device = config, data, device
        self.samples_per_step, self.validations = config.batch_size, _VALIDATIONS
        self._state, self._action = data.state.to(device), data.action.to(device)
        self._parts, self._last = data.parts.to(device), data.last.to(device)
        policy = DiffusionPolicy(config.policy, _part_poses_dim(data, begin_with))
        _prepare_encoders(policy, config, encoder_weights, device)
        self._fit(policy.to(device))
        if begin_with is not None:
            _take_over(policy, begin_with)
        super().__init__(policy, _optimizer(policy, config), config.ema_decay)
        self._views = views(config.policy)
        self._augment = {
            "front": augmentation(self._views["front"], config.front_augment),
            "wrist": augmentation(self._views["wrist"], config.wrist_augment),
        }
        sampling = Sampling(config.batch_size, config.real_share, config.memory_gb, config.seed)
        self.loader = FrameLoader(data.frames, data.train_rows, data.is_real, sampling, on_progress)
        self._conditions: Tensor | None = None  # (views, training steps, condition), in the refinement
        self._held_out: Frames | None = None

    def train_step(self, progress: float) -> Figures:
        """Do one update.

        Args:
          progress: how much of the run is done, 0 to 1; it sets the learning rate.

        Returns:
          Losses, of each domain by itself where there are two, and the rate, by name.
        """
        joint = 1.0 - self.config.refinement
        refining = progress >= joint
        if refining and self._conditions is None:
            self._begin_refinement()
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        self._set_rates((progress - joint) / self.config.refinement if refining else progress / joint)
        loss, figures = self._refinement_loss() if refining else self._joint_loss()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self._count_update()
        return {**figures, "learning_rate": self.optimizer.param_groups[-1]["lr"]}

    @torch.no_grad()
    def validate(self, rows: NDArray[np.int64] | None = None) -> dict[str, float]:
        """Sample chunks with the averaged weights for held-out steps and compare with the demonstrations.

        Returns:
          ``position_error_mm`` and ``rotation_entry_error`` over the actions that would be executed (the
          first T_a), ``gripper_agreement`` of them, and ``parts_error_mm`` where part poses are learned; of each
          domain by itself too where there are two, as ``position_error_mm/real``. Empty without held-out steps.
        """
        held_out = self._validation_frames() if rows is None else self.data.frames.read(_spread(rows))
        if len(held_out.rows) == 0:
            return {}
        by_domain = {
            domain: self._validate_rows(held_out, of) for domain, of in self.data.rows_by_domain(held_out.rows).items()
        }
        pooled = _pooled(list(by_domain.values()))
        apart = {f"{name}/{domain}": f.mean for domain, of in by_domain.items() for name, f in of.items()}
        return {name: figure.mean for name, figure in pooled.items()} | (apart if len(self.data.domains) > 1 else {})

    # ---- losses ----

    def _joint_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Of encoders and denoiser together, on the next batch; and what is logged."""
        rows, frames = self.loader.batch(self.step)
        policy, draws = self.policy, self.config.noise_draws
        condition, predicted = policy.condition(self._encode(rows, frames))
        action = self._action_losses(condition.repeat_interleave(draws, dim=0), np.repeat(rows, draws))
        loss, figures = self._mean("loss/action", action.unflatten(0, (-1, draws)).mean(dim=1), rows)
        known = self.data.knows_parts[rows]
        if policy.parts_head is not None and known.any():
            wanted = policy.parts_normalizer.normalize(self._parts[self._on_device(rows)])
            parts = (predicted - wanted).square().mean(dim=1)[torch.from_numpy(known).to(self._device)].mean()
            loss, figures["loss/parts"] = loss + self.config.parts_weight * parts, parts.detach()
        return loss, figures

    def _encode(self, rows: NDArray[np.int64], frames: Mapping[str, Tensor]) -> Tensor:
        """Features of randomly changed views of the steps ``rows``."""
        seen = {camera: self._augment[camera](frames[camera].to(self._device)) for camera in spaces.CAMERAS}
        state = self.policy.normalized_state(self._state[self._on_device(rows)])
        return self.policy.encoder(state, seen["front"], seen["wrist"])

    def _action_losses(self, condition: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Error ``(B,)`` of the denoised chunks of ``rows``, each at one random diffusion step."""
        on_device = self._on_device(rows)
        clean = self.policy.chunk_normalizer.normalize(self._chunks(on_device), self._state[on_device])
        return self.policy.process.losses(self.policy.denoiser, clean, condition)

    def _mean(self, name: str, losses: Tensor, rows: NDArray[np.int64]) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted mean of the steps' losses, and that of each domain, for the log."""
        if len(self.data.domains) == 1:
            mean = losses.mean()
            return mean, {name: mean.detach()}
        real = torch.from_numpy(self.data.is_real[rows]).to(self._device)
        weights = torch.where(real, self.config.real_weight, 1.0)
        mean = (weights * losses).sum() / weights.sum()
        figures = {name: mean.detach()}
        for domain in self.data.rows_by_domain(rows):
            figures[f"{name}/{domain}"] = losses[real if domain == "real" else ~real].mean().detach()
        return mean, figures

    # ---- refinement ----

    @torch.no_grad()
    def _begin_refinement(self) -> None:
        """Put the averaged encoders to rest and keep their features; repeated alike when a run is resumed."""
        for name in ("encoder", "parts_head"):
            learned, averaged = getattr(self.policy, name), getattr(self.average, name)
            if learned is not None:
                learned.load_state_dict(averaged.state_dict())
                learned.requires_grad_(False).eval()
        torch.manual_seed(self.config.seed)
        pieces = [
            torch.stack([self._condition(frames) for _ in range(self.config.refinement_views)])
            for frames in self.loader.pieces(_BATCH_WITHOUT_GRADIENT)
        ]
        self._conditions = torch.cat(pieces, dim=1)

    def _condition(self, frames: Frames) -> Tensor:
        return self.policy.condition(self._encode(frames.rows, frames.of(frames.rows)))[0]

    def _refinement_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the denoiser alone, on features that were kept."""
        assert self._conditions is not None
        places = self.loader.draw_places(self.config.refinement_batch)
        view = torch.randint(0, self.config.refinement_views, places.shape)
        rows = self.data.train_rows[places.numpy()]
        return self._mean("loss/action", self._action_losses(self._conditions[view, places], rows), rows)

    # ---- validation ----

    def _validation_frames(self) -> Frames:
        """Frames of some held-out steps of each domain, which stay in memory."""
        if self._held_out is None:
            chosen = [_spread(rows) for rows in self.data.rows_by_domain(self.data.validation_rows).values()]
            rows = np.sort(np.concatenate(chosen)) if chosen else self.data.validation_rows
            self._held_out = self.data.frames.read(rows)
        return self._held_out

    def _validate_rows(self, frames: Frames, rows: NDArray[np.int64]) -> dict[str, _Mean]:
        shape = (len(rows), self.config.policy.prediction_horizon, spaces.ACTION_DIM)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(self.config.seed)).to(self._device)
        size = _BATCH_WITHOUT_GRADIENT
        batches = [slice(i, i + size) for i in range(0, len(rows), size)]
        return _pooled([self._validate_batch(frames, rows[batch], noise[batch]) for batch in batches])

    def _validate_batch(self, frames: Frames, rows: NDArray[np.int64], noise: Tensor) -> dict[str, _Mean]:
        policy, on_device = self.average, self._on_device(rows)
        cut = frames.of(rows)
        front, wrist = (self._views[camera].centre(cut[camera].to(self._device)) for camera in spaces.CAMERAS)
        executed = self.config.policy.action_horizon
        predicted = policy.sample(self._state[on_device], front, wrist, noise)[:, :executed]
        wanted = self._chunks(on_device)[:, :executed]
        error = predicted - wanted
        gripper = predicted[..., spaces.ACTION_GRIPPER].sign() == wanted[..., spaces.ACTION_GRIPPER].sign()
        figures = {
            "position_error_mm": 1000 * error[..., spaces.ACTION_POSITION].norm(dim=-1).mean().item(),
            "rotation_entry_error": error[..., spaces.ACTION_ROT6D].abs().mean().item(),
            "gripper_agreement": gripper.float().mean().item(),
        }
        means = {name: _Mean(value, len(rows)) for name, value in figures.items()}
        known = self.data.knows_parts[rows]
        if policy.parts_head is not None and known.any():
            features = policy.encoder(policy.normalized_state(self._state[on_device]), front, wrist)
            parts = policy.parts_normalizer.denormalize(policy.condition(features)[1]) - self._parts[on_device]
            position = parts.unflatten(-1, (-1, spaces.PART_POSE_DIM))[..., :3].norm(dim=-1).mean(dim=-1)
            error_m = position[torch.from_numpy(known).to(self._device)].mean().item()
            means["parts_error_mm"] = _Mean(1000 * error_m, int(known.sum()))
        return means

    # ---- pieces ----

    def _fit(self, policy: DiffusionPolicy) -> None:
        """Take the limits of the training steps: a piece at a time, for chunks are many times the data."""
        for i, rows in enumerate(torch.from_numpy(self.data.train_rows).split(_FITTED_AT_ONCE)):
            on_device = rows.to(self._device)
            policy.state_normalizer.fit(self._state[on_device], more=i > 0)
            policy.chunk_normalizer.fit(self._state[on_device], self._chunks(on_device), more=i > 0)
        rows = self.data.train_rows[self.data.knows_parts[self.data.train_rows]]
        if policy.parts_head is not None and len(rows):
            policy.parts_normalizer.fit(self._parts[self._on_device(rows)])

    def _chunks(self, rows: Tensor) -> Tensor:
        """The actions ``(B, T_p, 10)`` that follow the steps ``rows``."""
        return self._action[chunk_rows(rows, self._last, self.config.policy.prediction_horizon)]

    def _on_device(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(rows).to(self._device)

    def _set_rates(self, phase: float) -> None:
        """Set those of the encoders, and of all else, for a share of the run or of its refinement."""
        config = self.config
        encoder_rate = config.learning_rate if config.encoder_learning_rate is None else config.encoder_learning_rate
        encoders, others = self.optimizer.param_groups
        encoders["lr"] = encoder_rate * _rate_factor(phase, config.encoder_warmup)
        others["lr"] = config.learning_rate * _rate_factor(phase, config.warmup)


@dataclass(frozen=True)
class _Mean:
    """The mean of ``count`` values."""

    mean: float
    count: int


def _pooled(figures: list[dict[str, _Mean]]) -> dict[str, _Mean]:
    """Each figure over all that have it."""
    names = dict.fromkeys(name for of in figures for name in of)
    return {name: _pool([of[name] for of in figures if name in of]) for name in names}


def _pool(means: list[_Mean]) -> _Mean:
    count = sum(one.count for one in means)
    return _Mean(sum(one.mean * one.count for one in means) / count, count)


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Some of ``rows``, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(_VALIDATION_STEPS, len(rows))).astype(int)]


def _part_poses_dim(data: TrainingData, begin_with: Mapping[str, Tensor] | None) -> int:
    """Numbers of the part poses that the policy predicts: those that the data know, or the given weights tell."""
    known = data.parts.shape[1]
    if begin_with is None:
        return known
    told = part_poses_dim(begin_with)
    if known not in (0, told):
        raise ResipError(
            f"the policy to begin with predicts {told} numbers of part poses, and in these data {known} matter: "
            "was it made for another task?"
        )
    return told


def _take_over(policy: DiffusionPolicy, weights: Mapping[str, Tensor]) -> None:
    """Give a policy the weights of another of its kind."""
    different = of_other_shape(policy, weights)
    if different:
        raise ResipError(
            f"the policy to begin with is of another network than its settings say ({different[0]} and "
            f"{len(different) - 1} others differ): it was trained by another version"
        )
    policy.load_state_dict({name: weights[name] for name in policy.state_dict()})


def has_bfloat16(device: str) -> bool:
    """Whether a device of torch's has units for bfloat16; without, a CPU is ten times slower in it than in float32."""
    units = ("avx512_bf16", "amx_bf16", "bf16")  # AMD and Intel, Intel, ARM
    return device != "cpu" or any(torch.cpu.get_capabilities().get(unit, False) for unit in units)


def _prepare_encoders(
    policy: DiffusionPolicy, config: BCConfig, weights: Path | Mapping[str, Tensor] | None, device: str
) -> None:
    """Begin with the weights that there are, rest what is to be frozen, and set the precision."""
    if isinstance(weights, Mapping):
        own = policy.encoder.state_dict()
        policy.encoder.load_state_dict({name: weights.get(name, value) for name, value in own.items()})
    for encoder in policy.image_encoders:
        encoder.low_precision = config.precision == "bfloat16" and has_bfloat16(device)
        if isinstance(encoder, ResNetEncoder):
            if isinstance(weights, Path):
                load_weights(encoder.trunk, weights)
            if config.freeze_encoder:
                encoder.trunk.requires_grad_(False).eval()
        elif isinstance(weights, Path) or config.freeze_encoder:
            raise ResipError(
                "the compact encoder learns, and begins at random or with another policy's, such as models/one_leg: "
                "files of weights and frozen encoders are for the paper's preset"
            )
    if config.freeze_encoder and weights is None:
        raise ResipError("an encoder that begins at random cannot stay frozen: give it --encoder-weights")


def _optimizer(policy: DiffusionPolicy, config: BCConfig) -> torch.optim.AdamW:
    """AdamW with a rate for the encoders, and one for all else."""
    encoders = list(policy.encoder.parameters())
    others = [parameter for name, parameter in policy.named_parameters() if not name.startswith("encoder.")]
    groups = [{"params": encoders}, {"params": others}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)


def _rate_factor(progress: float, warmup: float) -> float:
    """Linear warm-up, then cosine to zero."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))
