"""PPO (Schulman et al. 2017) for whatever acts in worlds that start again by themselves: a residual, or chunks.

Not repeated from the paper's code are: steps after success in the batch (an episode ends there), and a time limit
taken for a failure (it is bootstrapped).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from resip_training import distributed
from resip_training.algorithms.gae import advantages
from resip_training.algorithms.settings import PPOConfig
from resip_training.models.residual import Critic
from resip_training.rollout.training_worlds import Step
from resip_training.runs import load_optimizer, optimizer_tensors, prefixed, with_prefix

Actor = TypeVar("Actor", bound=nn.Module)

_RATE_STEP: Final = 1.3  # of the step size, towards its target
_RATE_RANGE: Final = (1e-7, 3e-3)
_REWARD_LIMIT: Final = 5.0


class ActingEnv(Protocol):
    """Worlds to act in: `ResidualEnv`, `ChunkEnv`, or a toy."""

    num_envs: int
    observation: Tensor
    """``(n, D)``, the present one."""

    def step(self, action: Tensor, /) -> Step:
        """Act once in every world; worlds whose episodes end begin others, and ``observation`` is theirs then."""
        ...


class ActorCritic(nn.Module, ABC, Generic[Actor]):
    """A Gaussian policy and its critic.

    Args:
      actor: what the policy loss trains.
      critic: what the value loss trains.
    """

    def __init__(self, actor: Actor, critic: Critic) -> None:
        super().__init__()
        self.actor, self.critic = actor, critic

    @abstractmethod
    def distribution(self, observation: Tensor) -> Normal:
        """Of actions ``(B, ...)``, independent in each number, for observations ``(B, D)``."""

    @abstractmethod
    def value(self, observation: Tensor) -> Tensor:
        """Values ``(B,)`` of observations ``(B, D)``."""


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
class Rollout:
    """T actions in n worlds, each entry ``(T, n, ...)``."""

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    value: Tensor
    next_value: Tensor
    reward: Tensor
    terminated: Tensor
    ended: Tensor


class PPO(ABC):
    """The algorithm: rollouts, then epochs over them.

    Processes that share a run have worlds of their own, and everything else in common: minibatches are drawn of the
    actions in all worlds, and each process adds the gradient of those that it has. Single numbers of an action (values,
    rewards, ends) are brought together; observations stay where they were made.

    Args:
      config: settings.
      env: where it acts.
      model: what learns, on the device of the worlds.
    """

    #: Before the names of the model's weights in a checkpoint.
    prefix: ClassVar[str]

    def __init__(self, config: PPOConfig, env: ActingEnv, model: ActorCritic[Any]) -> None:
        self.config, self.env, self.model = config, env, model
        self._generator = torch.Generator(env.observation.device).manual_seed(config.seed)
        self.actor_optimizer = adamw(model.actor, config.actor_rate)
        self.critic_optimizer = adamw(model.critic, config.critic_rate)
        self.actor_rate = config.actor_rate
        self._reward_scale = RewardScale()
        self._noise: Tensor | None = None
        self.iteration = 0

    def iterate(self, progress: float) -> dict[str, float]:
        """Act ``rollout_steps`` times in every world, then update; what is logged."""
        rollout, outcome = self._collect()
        figures = self._update(rollout, progress)
        self.iteration += 1
        return outcome | figures

    @property
    def steps_per_iteration(self) -> int:
        """Control steps of a rollout, of all worlds together."""
        return self.config.rollout_steps * self.env.num_envs * distributed.count()

    def weights(self) -> dict[str, Tensor]:
        """Of actor and critic."""
        return prefixed(self.prefix, self.model.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """Everything of the algorithm that a resumed run needs, by name."""
        numbers = torch.tensor([self.iteration, self.actor_rate, *self._reward_scale.state()], dtype=torch.float64)
        return {
            **self.weights(),
            **optimizer_tensors("actor_optimizer.", self.actor_optimizer),
            **optimizer_tensors("critic_optimizer.", self.critic_optimizer),
            "generator": self._generator.get_state(),
            "numbers": numbers,
            **({} if self._noise is None else {"noise": self._noise}),
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Invert `tensors`."""
        self.model.load_state_dict(with_prefix(tensors, self.prefix))
        load_optimizer("actor_optimizer.", self.actor_optimizer, tensors)
        load_optimizer("critic_optimizer.", self.critic_optimizer, tensors)
        self._generator.set_state(tensors["generator"].cpu())
        self._noise = tensors.get("noise")
        iteration, self.actor_rate, *scale = tensors["numbers"].tolist()
        self.iteration = int(iteration)
        self._reward_scale = RewardScale(*scale)

    def _penalty(self, observation: Tensor, new: Normal) -> Tensor:
        """What is added to the policy loss ``(B,)`` where actions are now distributed as ``new``."""
        return torch.zeros(len(observation), device=observation.device)

    @abstractmethod
    def _figures(self, observation: Tensor) -> dict[str, float]:
        """What else is logged of an update, from this process's observations ``(B, D)`` of its rollout."""

    @torch.no_grad()
    def _collect(self) -> tuple[Rollout, dict[str, float]]:
        env, model = self.env, self.model
        rows: list[tuple[Tensor, ...]] = []
        outcome = OutcomeCount(env.observation.device)
        worlds = env.num_envs * distributed.count()
        for _ in range(self.config.rollout_steps):
            observation = env.observation
            distribution = model.distribution(observation)
            mean = distribution.mean
            action = mean + distribution.stddev * distributed.own_rows(self._next_noise((worlds, *mean.shape[1:])))
            step = env.step(action)
            outcome.add(step)
            rows.append(
                (
                    observation,
                    action,
                    _log_prob(distribution, action),
                    model.value(observation),
                    model.value(step.next_observation),
                    step.reward,
                    step.terminated,
                    step.ended,
                )
            )
        return Rollout(*(torch.stack(column) for column in zip(*rows, strict=True))), outcome.figures()

    def _next_noise(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal in the worlds of all processes, and like the noise before as far as that is remembered."""
        fresh = torch.randn(shape, generator=self._generator, device=self.env.observation.device)
        memory = self.config.noise_memory
        self._noise = fresh if self._noise is None else memory * self._noise + math.sqrt(1 - memory**2) * fresh
        return self._noise

    def _update(self, rollout: Rollout, progress: float) -> dict[str, float]:
        config = self.config
        numbers = (rollout.reward, rollout.value, rollout.next_value, rollout.terminated, rollout.ended)
        reward, value, next_value, terminated, ended = (distributed.gathered(column, dim=1) for column in numbers)
        if config.normalize_reward:
            reward = self._reward_scale.normalized(reward)
        advantage = advantages(reward, value, next_value, terminated, ended, config.discount, config.trace).flatten()
        value = value.flatten()
        target = advantage + value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        observation, action = rollout.observation.flatten(0, 1), rollout.action.flatten(0, 1)
        log_prob = rollout.log_prob.flatten()
        self._set_rates(progress)
        actor_learns = self.iteration >= config.critic_first
        divergence, epochs, losses = 0.0, 0.0, {}
        for _ in range(config.epochs):
            for rows in minibatches(len(target), config.minibatches, self._generator):
                here, places = self._own(rows)
                losses = self._minibatch(
                    observation[places],
                    action[places],
                    log_prob[places],
                    advantage[here],
                    target[here],
                    len(rows),
                    actor_learns,
                )
            epochs += 1.0
            if actor_learns:
                divergence = self._divergence(observation, action, log_prob)
                if divergence > config.kl_stop:
                    break
        if actor_learns and config.kl_step > 0:
            self._follow(divergence)
        return {
            **{name: float(distributed.added_up(loss)) for name, loss in losses.items()},
            "epochs": epochs,
            "kl": divergence,
            "actor_rate": self.actor_rate,
            "explained_variance": explained_variance(target, value),
            **self._figures(observation),
        }

    def _minibatch(
        self,
        observation: Tensor,
        action: Tensor,
        log_prob: Tensor,
        advantage: Tensor,
        target: Tensor,
        size: int,
        actor_learns: bool,
    ) -> dict[str, Tensor]:
        """Learn from this process's rows of a minibatch of ``size``; their parts of the losses."""
        config = self.config
        value_loss = 0.5 * (self.model.value(observation) - target).square().sum() / size
        descend(self.critic_optimizer, self.model.critic, config.value_weight * value_loss, config.clip_norm)
        if not actor_learns:
            return {"value_loss": value_loss.detach()}
        new = self.model.distribution(observation)
        ratio = (_log_prob(new, action) - log_prob).exp()
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).sum() / size
        loss = policy_loss + self._penalty(observation, new).sum() / size
        descend(self.actor_optimizer, self.model.actor, loss, config.clip_norm)
        return {"value_loss": value_loss.detach(), "policy_loss": policy_loss.detach()}

    def _own(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Those among rows of all worlds' steps ``(T, N)`` that were made here, and their rows in these ``(T, n)``."""
        if distributed.count() == 1:
            return rows, rows
        worlds = distributed.own(self.env.num_envs)
        step, world = rows // (len(worlds) * distributed.count()), rows % (len(worlds) * distributed.count())
        here = (world >= worlds.start) & (world < worlds.stop)
        return rows[here], (step * len(worlds) + world - worlds.start)[here]

    @torch.no_grad()
    def _divergence(self, observation: Tensor, action: Tensor, log_prob: Tensor) -> float:
        """KL divergence of the new policy from the one that acted, estimated as ``(r - 1) - log r``."""
        log_ratio = _log_prob(self.model.distribution(observation), action) - log_prob
        return distributed.mean(log_ratio.exp() - 1 - log_ratio)

    def _follow(self, divergence: float) -> None:
        if divergence > 1.5 * self.config.kl_step:
            self.actor_rate /= _RATE_STEP
        elif divergence < self.config.kl_step / 1.5:
            self.actor_rate *= _RATE_STEP
        self.actor_rate = min(max(self.actor_rate, _RATE_RANGE[0]), _RATE_RANGE[1])

    def _set_rates(self, progress: float) -> None:
        left = self._rate_left(progress)
        actor = self.actor_rate if self.config.kl_step > 0 else self.config.actor_rate * left
        set_rate(self.actor_optimizer, actor)
        set_rate(self.critic_optimizer, self.config.critic_rate * left)

    def _rate_left(self, progress: float) -> float:
        """Share of the step sizes that is left when ``progress`` of the run, 0 to 1, is done."""
        return cosine(progress)


class OutcomeCount:
    """Counts the episodes that end in a rollout, in the worlds of all processes."""

    def __init__(self, device: torch.device) -> None:
        self._ends = torch.zeros(2, device=device)  # of episodes, and of those that succeeded

    def add(self, step: Step) -> None:
        """Count those that end with this step."""
        self._ends += torch.stack([step.ended.sum(), (step.ended & step.success).sum()])

    def figures(self) -> dict[str, float]:
        """What is logged."""
        episodes, successes = distributed.added_up(self._ends).tolist()
        return {"training_success": successes / max(episodes, 1.0), "episodes": episodes}


def adamw(module: nn.Module, rate: float) -> torch.optim.AdamW:
    """The optimiser of what is learned in a module."""
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(learned, lr=rate, eps=1e-5, weight_decay=1e-6)


def cosine(progress: float) -> float:
    """Share of a step size that is left when ``progress`` of a run, 0 to 1, is done."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give an optimiser its step size."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def minibatches(n: int, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """The numbers from 0 to ``n`` in random order, in ``count`` parts."""
    return torch.randperm(n, generator=generator, device=generator.device).chunk(count)


def descend(optimizer: torch.optim.Optimizer, module: nn.Module, loss: Tensor, clip_norm: float) -> None:
    """One step of a module's optimiser, of whose loss every process has its part."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    distributed.add_up_gradients(module)
    torch.nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
    optimizer.step()


def explained_variance(target: Tensor, value: Tensor) -> float:
    """Share of the targets' variance that the values had foreseen; 0 where they do not vary."""
    variance = target.var()
    return float(1 - (target - value).var() / variance) if variance > 0 else 0.0


def _log_prob(distribution: Normal, action: Tensor) -> Tensor:
    return distribution.log_prob(action).flatten(1).sum(-1)
