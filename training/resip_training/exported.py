"""What leaves training: policies as modules of plain tensor operations, for TorchScript and torch.export to record."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from resip_training.checkpoints import Teacher
from resip_training.models.base_policy import BasePolicy
from resip_training.models.denoiser import Denoiser
from resip_training.models.diffusion import DiffusionBase
from resip_training.models.diffusion_policy import DiffusionPolicy, views
from resip_training.models.schedule import Schedule, inference_scheduler
from resip_training.rollout.residual_env import residual_observation

_HALVED_DIM: Final = 2  # matrices and kernels are halved; vectors, such as normalisation limits, are few and matter


@dataclass(frozen=True)
class _Step:
    """Constants of a DDIM step: square roots of the share of the chunk and of the noise, before and after it."""

    index: int
    chunk_now: float
    noise_now: float
    chunk_next: float
    noise_next: float


class UnrolledDdim(nn.Module):
    """DDIM as diffusers computes it, its schedule as constants, and all that no chunk is needed for computed at once.

    Args:
      denoiser: ``(noisy (B, T, 10), step (B,), condition (B, C)) -> (B, T, 10)``.
      schedule: of the diffusion process.
    """

    indices: Tensor

    def __init__(self, denoiser: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.denoiser = denoiser
        self._predicts_sample = schedule.prediction_type == "sample"
        self._steps = _ddim_steps(schedule)
        indices = torch.tensor([float(step.index) for step in self._steps])
        self.register_buffer("indices", indices, persistent=False)

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Denoise ``(B, T, 10)`` under the condition ``(B, C)``."""
        denoise = self._prepared(condition)
        chunk = noise
        for i, step in enumerate(self._steps):
            chunk = self._stepped(chunk, denoise(i, chunk), step)
        return chunk

    def _prepared(self, condition: Tensor) -> Callable[[int, Tensor], Tensor]:
        """The denoiser at the i-th step."""
        denoiser, n = self.denoiser, len(self._steps)
        step = self.indices.unsqueeze(1) + torch.zeros_like(condition[:, 0])  # (n, B)
        if not isinstance(denoiser, Denoiser):
            return lambda i, chunk: denoiser(chunk, step[i], condition)
        films = [film.unflatten(0, (n, -1)) for film in denoiser.films(step.flatten(), condition.repeat(n, 1))]
        return lambda i, chunk: denoiser.denoise(chunk, [film[i] for film in films])

    def _stepped(self, chunk: Tensor, output: Tensor, step: _Step) -> Tensor:
        """One deterministic step (Song et al. 2021, eq. 12) with the clean chunk clipped to [-1, 1]."""
        if self._predicts_sample:
            clean = output
            noise = (chunk - step.chunk_now * clean) / step.noise_now
        else:
            noise = output
            clean = (chunk - step.noise_now * noise) / step.chunk_now
        return step.chunk_next * clean.clamp(-1, 1) + step.noise_next * noise


def _ddim_steps(schedule: Schedule) -> list[_Step]:
    scheduler = inference_scheduler(schedule)
    alphas, indices = scheduler.alphas_cumprod, [int(index) for index in scheduler.timesteps]
    stride = schedule.diffusion_steps // schedule.inference_steps  # as diffusers steps, also when uneven
    steps = []
    for index in indices:
        now = float(alphas[index])
        after = float(alphas[index - stride] if index >= stride else scheduler.final_alpha_cumprod)
        steps.append(_Step(index, now**0.5, (1 - now) ** 0.5, after**0.5, (1 - after) ** 0.5))
    return steps


class ExportedPolicy(nn.Module):
    """Everything between camera pixels and actions of a policy on images.

    Args:
      policy: the trained policy; its weights are copied.
    """

    def __init__(self, policy: DiffusionPolicy) -> None:
        super().__init__()
        self.policy = copy.deepcopy(policy).requires_grad_(False).eval()
        del self.policy.parts_normalizer  # training only
        for encoder in self.policy.image_encoders:
            encoder.low_precision = False
        camera_views = views(policy.config)
        self.front_view, self.wrist_view = camera_views["front"], camera_views["wrist"]
        self.ddim = UnrolledDdim(self.policy.denoiser, policy.config)

    def forward(self, robot_state: Tensor, front: Tensor, wrist: Tensor, noise: Tensor) -> Tensor:
        """Predict actions ``(B, T_p, 10)``; see `resip.policy.artefact` for the inputs."""
        features = self.policy.encoder(
            self.policy.normalized_state(robot_state), self.front_view(front), self.wrist_view(wrist)
        )
        condition, _ = self.policy.condition(features)
        return self.policy.chunk_normalizer.denormalize(self.ddim(noise, condition), robot_state)


def half_stored(module: nn.Module) -> nn.Module:
    """A copy of a module that keeps its matrices and kernels in float16 and computes with them in float32."""
    module = copy.deepcopy(module)
    for layer in list(module.modules()):
        for name, weight in list(layer.named_parameters(recurse=False)):
            if weight.dim() >= _HALVED_DIM:
                setattr(layer, name, nn.Parameter(weight.half(), requires_grad=False))
                register_parametrization(layer, name, _AsFloat(), unsafe=True)  # which lets it change the type
    return module


class _AsFloat(nn.Module):
    def forward(self, stored: Tensor) -> Tensor:
        return stored.float()


class ExportedTeacher(nn.Module):
    """A policy on states: the chunk of its base, and the correction of each action where a residual was learned.

    Args:
      teacher: base alone, or with what was learned on it; nothing of it is changed.
    """

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        policy, planner = copy.deepcopy((teacher.policy, teacher.planner))
        _unroll(policy)
        # in tuples: all weights are recorded as constants, whichever of these are modules
        self._planner = (planner or policy,)
        self._corrector = (policy, teacher.residual, teacher.correction)

    def chunk(self, robot_state: Tensor, part_poses: Tensor, noise: Tensor) -> Tensor:
        """Absolute actions ``(B, T_p, 10)``.

        Args:
          robot_state: ``(B, 16)``.
          part_poses: ``(B, 7 * (parts + 1))``, the obstacle's last.
          noise: ``(B, T_p, 10)``, standard normal.
        """
        return self._planner[0].sample(torch.cat([robot_state, part_poses], dim=-1), noise)

    def correct(self, robot_state: Tensor, part_poses: Tensor, base_action: Tensor) -> Tensor:
        """The absolute action ``(B, 10)`` to execute where the chunk has ``base_action`` ``(B, 10)``."""
        policy, residual, correction = self._corrector
        if residual is None:
            return base_action
        seen = torch.cat([robot_state, part_poses], dim=-1)
        wanted = residual(residual_observation(policy, seen, base_action, correction.poses))
        return base_action + correction.alpha * wanted * policy.action_normalizer.half_range


def _unroll(policy: BasePolicy) -> None:
    """Let a diffusion policy predict by an unrolled loop: diffusers' takes the batch for a constant."""
    if isinstance(policy, DiffusionBase):
        ddim = UnrolledDdim(policy.denoiser, policy.config)
        policy.predict = lambda features, noise: ddim(noise, features)
