"""A residual on a frozen base, trained with PPO on a sparse reward (paper 3.2, Tables 6 and 9).

Where this differs from the paper's code, `ResidualPPOConfig` says so and why. Not repeated are: steps after success
in the batch (an episode ends there), a time limit taken for a failure (it is bootstrapped), and plans that outlive
their episode (see `ChunkedBase`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from resip_training import distributed
from resip_training.algorithms.gae import advantages
from resip_training.algorithms.settings import ResidualPPOConfig
from resip_training.models.residual import Critic, GaussianResidual
from resip_training.rollout.residual_env import ResidualEnv
from resip_training.runs import load_optimizer, optimizer_tensors, prefixed, with_prefix

_RATE_STEP: Final = 1.3  # of the step size, towards its target
_RATE_RANGE: Final = (1e-5, 3e-3)
_REWARD_LIMIT: Final = 5.0


class ActorCritic(nn.Module):
    """The residual and its critic."""

    def __init__(self, observation_dim: int, action_dim: int, config: ResidualPPOConfig) -> None:
        super().__init__()
        self.actor = GaussianResidual(
            observation_dim, config.width, config.log_std, config.learn_std, config.sees_base_action, action_dim
        )
        self.critic = Critic(observation_dim, config.width)


@dataclass
class RewardScale:
    """Divides rewards by the deviation of all that were seen, without moving their mean."""

    count: float = 1e-4
    mean: float = 0.0
    variance: float = 1.0

    def normalized(self, reward: Tensor) -> Tensor:
        """Scaled rewards, at most 5 in size, with these rewards counted in."""
        count, mean, variance = float(reward.numel()), float(reward.mean()), float(reward.var(unbiased=False))
        total, difference = self.count + count, mean - self.mean
        spread = self.variance * self.count + variance * count + difference**2 * self.count * count / total
        self.mean += difference * count / total
        self.count, self.variance = total, spread / total
        return (reward / math.sqrt(self.variance + 1e-8)).clamp(-_REWARD_LIMIT, _REWARD_LIMIT)

    def state(self) -> list[float]:
        """What makes another one alike."""
        return [self.count, self.mean, self.variance]


@dataclass
class _Rollout:
    """T steps in n worlds, each entry ``(T, n, ...)``."""

    observation: Tensor
    residual: Tensor
    log_prob: Tensor
    value: Tensor
    next_value: Tensor
    reward: Tensor
    terminated: Tensor
    ended: Tensor


class ResidualPPO:
    """The algorithm: rollouts in a `ResidualEnv`, then epochs over them.

    Processes that share a run have worlds of their own, and everything else in common: minibatches are drawn of the
    steps of all worlds, and each process adds the gradient of those that it has. Single numbers of a step (values,
    rewards, ends) are brought together; observations stay where they were made.

    Args:
      config: settings.
      env: where it acts.
    """

    def __init__(self, config: ResidualPPOConfig, env: ResidualEnv) -> None:
        self.config, self.env = config, env
        torch.manual_seed(config.seed)
        device = env.observation.device
        self.model = ActorCritic(env.observation_dim, env.action_dim, config).to(device)
        self._generator = torch.Generator(device).manual_seed(config.seed)
        self.actor_optimizer = self._optimizer(self.model.actor, config.actor_rate)
        self.critic_optimizer = self._optimizer(self.model.critic, config.critic_rate)
        self.actor_rate = config.actor_rate
        self._reward_scale = RewardScale()
        self.iteration = 0

    def iterate(self, progress: float) -> dict[str, float]:
        """Act ``rollout_steps`` in every world, then update; what is logged."""
        rollout, outcome = self._collect()
        figures = self._update(rollout, progress)
        self.iteration += 1
        return outcome | figures

    def act(self, observation: Tensor) -> Tensor:
        """The residual's mean."""
        with torch.no_grad():
            return self.model.actor(observation)

    @property
    def steps_per_iteration(self) -> int:
        """Control steps of a rollout, of all worlds together."""
        return self.config.rollout_steps * self.env.num_envs * distributed.count()

    def weights(self) -> dict[str, Tensor]:
        """Of actor and critic."""
        return prefixed("residual.", self.model.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """Everything of the algorithm that a resumed run needs, by name."""
        numbers = torch.tensor([self.iteration, self.actor_rate, *self._reward_scale.state()], dtype=torch.float64)
        return {
            **self.weights(),
            **optimizer_tensors("actor_optimizer.", self.actor_optimizer),
            **optimizer_tensors("critic_optimizer.", self.critic_optimizer),
            "generator": self._generator.get_state(),
            "numbers": numbers,
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Invert `tensors`."""
        self.model.load_state_dict(with_prefix(tensors, "residual."))
        load_optimizer("actor_optimizer.", self.actor_optimizer, tensors)
        load_optimizer("critic_optimizer.", self.critic_optimizer, tensors)
        self._generator.set_state(tensors["generator"].cpu())
        iteration, self.actor_rate, *scale = tensors["numbers"].tolist()
        self.iteration = int(iteration)
        self._reward_scale = RewardScale(*scale)

    @torch.no_grad()
    def _collect(self) -> tuple[_Rollout, dict[str, float]]:
        env, model = self.env, self.model
        rows: list[tuple[Tensor, ...]] = []
        worlds = env.num_envs * distributed.count()
        ends = torch.zeros(2, device=env.observation.device)  # of episodes, and of those that succeeded
        for _ in range(self.config.rollout_steps):
            observation = env.observation
            distribution = model.actor.distribution(observation)
            noise = torch.randn(worlds, env.action_dim, generator=self._generator, device=observation.device)
            residual = distribution.mean + distribution.stddev * distributed.own_rows(noise)
            log_prob = distribution.log_prob(residual).sum(-1)
            step = env.step(residual)
            ended = step.terminated | step.truncated
            following = model.critic(step.next_observation)
            rows.append(
                (
                    observation,
                    residual,
                    log_prob,
                    model.critic(observation),
                    following,
                    step.reward,
                    step.terminated,
                    ended,
                )
            )
            ends += torch.stack([ended.sum(), (ended & step.success).sum()])
        episodes, successes = distributed.added_up(ends).tolist()
        outcome = {"training_success": successes / max(episodes, 1.0), "episodes": episodes}
        return _Rollout(*(torch.stack(column) for column in zip(*rows, strict=True))), outcome

    def _update(self, rollout: _Rollout, progress: float) -> dict[str, float]:
        config = self.config
        numbers = (rollout.reward, rollout.value, rollout.next_value, rollout.terminated, rollout.ended)
        reward, value, next_value, terminated, ended = (distributed.gathered(column, dim=1) for column in numbers)
        if config.normalize_reward:
            reward = self._reward_scale.normalized(reward)
        advantage = advantages(reward, value, next_value, terminated, ended, config.discount, config.trace).flatten()
        target = advantage + value.flatten()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        observation, residual = rollout.observation.flatten(0, 1), rollout.residual.flatten(0, 1)
        log_prob = rollout.log_prob.flatten()
        self._set_rates(progress)
        actor_learns = self.iteration >= config.critic_first
        divergence, epochs, figures = 0.0, 0.0, {}
        for _ in range(config.epochs):
            for rows in torch.randperm(len(target), generator=self._generator, device=target.device).chunk(
                config.minibatches
            ):
                here, places = self._own(rows)
                figures = self._minibatch(
                    observation[places],
                    residual[places],
                    log_prob[places],
                    advantage[here],
                    target[here],
                    len(rows),
                    actor_learns,
                )
            epochs += 1.0
            if actor_learns:
                divergence = self._divergence(observation, residual, log_prob)
                if divergence > config.kl_stop:
                    break
        if actor_learns and config.kl_step > 0:
            self._follow(divergence)
        variance = target.var()
        explained = 1 - (target - value.flatten()).var() / variance if variance > 0 else torch.zeros(())
        losses = {name: float(distributed.added_up(loss)) for name, loss in figures.items()}
        return losses | {
            "epochs": epochs,
            "kl": divergence,
            "actor_rate": self.actor_rate,
            "explained_variance": float(explained),
            "residual_mean": _mean(self.act(observation).abs()),
        }

    def _minibatch(
        self,
        observation: Tensor,
        residual: Tensor,
        log_prob: Tensor,
        advantage: Tensor,
        target: Tensor,
        size: int,
        actor_learns: bool,
    ) -> dict[str, Tensor]:
        """Learn from this process's rows of a minibatch of ``size``; their parts of the losses."""
        config = self.config
        value_loss = 0.5 * (self.model.critic(observation) - target).square().sum() / size
        self._descend(self.critic_optimizer, self.model.critic, config.value_weight * value_loss)
        if not actor_learns:
            return {"value_loss": value_loss.detach()}
        new = self.model.actor.distribution(observation).log_prob(residual).sum(-1)
        ratio = (new - log_prob).exp()
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).sum() / size
        self._descend(self.actor_optimizer, self.model.actor, policy_loss)
        return {"value_loss": value_loss.detach(), "policy_loss": policy_loss.detach()}

    def _own(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Those among rows of all worlds' steps ``(T, N)`` that were made here, and their rows in these ``(T, n)``."""
        if distributed.count() == 1:
            return rows, rows
        worlds = distributed.own(self.env.num_envs)
        step, world = rows // (len(worlds) * distributed.count()), rows % (len(worlds) * distributed.count())
        here = (world >= worlds.start) & (world < worlds.stop)
        return rows[here], (step * len(worlds) + world - worlds.start)[here]

    def _descend(self, optimizer: torch.optim.Optimizer, module: nn.Module, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        distributed.add_up_gradients(module)
        torch.nn.utils.clip_grad_norm_(module.parameters(), self.config.clip_norm)
        optimizer.step()

    @torch.no_grad()
    def _divergence(self, observation: Tensor, residual: Tensor, log_prob: Tensor) -> float:
        """KL divergence of the new policy from the one that acted, estimated as ``(r - 1) - log r``."""
        log_ratio = self.model.actor.distribution(observation).log_prob(residual).sum(-1) - log_prob
        return _mean(log_ratio.exp() - 1 - log_ratio)

    def _follow(self, divergence: float) -> None:
        if divergence > 1.5 * self.config.kl_step:
            self.actor_rate /= _RATE_STEP
        elif divergence < self.config.kl_step / 1.5:
            self.actor_rate *= _RATE_STEP
        self.actor_rate = min(max(self.actor_rate, _RATE_RANGE[0]), _RATE_RANGE[1])

    def _set_rates(self, progress: float) -> None:
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        actor = self.actor_rate if self.config.kl_step > 0 else self.config.actor_rate * cosine
        for optimizer, rate in (
            (self.actor_optimizer, actor),
            (self.critic_optimizer, self.config.critic_rate * cosine),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate

    def _optimizer(self, module: nn.Module, rate: float) -> torch.optim.AdamW:
        learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(learned, lr=rate, eps=1e-5, weight_decay=1e-6)


def _mean(values: Tensor) -> float:
    """Over all processes, of which each has as many."""
    return float(distributed.added_up(values.mean()) / distributed.count())
