"""Choice by Q among a diffusion policy's chunks: the second baseline of the paper (4.1, Tables 6 and 8).

After IDQL (Hansen-Estruch et al. 2023), but Q is learned on-policy, as the paper does: chunks of the frozen base
are executed with some noise, and Q is regressed to the lambda-returns that they had. Not repeated from the
reference's code: a checkpoint without Q; a Q that ends in a sigmoid; the end of an episode at its first reward;
plans that are begun from those of other episodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from resip_training.algorithms.gae import advantages
from resip_training.algorithms.ppo import (
    OutcomeCount,
    adamw,
    cosine,
    descend,
    explained_variance,
    minibatches,
    set_rate,
)
from resip_training.algorithms.settings import IDQLConfig
from resip_training.models.base_policy import BasePolicy
from resip_training.models.chunk_choice import BestOfSamples, ChunkCritic
from resip_training.rollout.chunk_env import ChunkEnv
from resip_training.rollout.episodes import BaseAgent, StateAgent
from resip_training.runs import load_optimizer, optimizer_tensors, prefixed, with_prefix


@dataclass
class _Rollout:
    """T chunks in n worlds, each entry ``(T, n, ...)``; values are Q of what was executed, and of what came next."""

    observation: Tensor
    chunk: Tensor
    value: Tensor
    next_value: Tensor
    reward: Tensor
    terminated: Tensor
    ended: Tensor


class IDQL:
    """The algorithm in a `ChunkEnv`.

    Args:
      config: settings.
      env: where it acts.
      base: frozen, on the device of the worlds; one whose chunks differ with its noise.
    """

    def __init__(self, config: IDQLConfig, env: ChunkEnv, base: BasePolicy) -> None:
        torch.manual_seed(config.seed)
        self.config, self.env, self.base = config, env, base
        self.critic = ChunkCritic(base, config.width, config.poses).to(base.device)
        self.optimizer = adamw(self.critic, config.critic_rate)
        self._generator = torch.Generator(base.device).manual_seed(config.seed)

    def iterate(self, progress: float) -> dict[str, float]:
        """Execute ``rollout_chunks`` in every world, then learn what they were worth; what is logged."""
        rollout, outcome = self._collect()
        return outcome | self._update(rollout, progress)

    @property
    def steps_per_iteration(self) -> int:
        """Control steps of a rollout, of all worlds together."""
        return self.config.rollout_chunks * self.env.num_envs * self.env.action_shape[0]

    def agent(self, num_envs: int) -> StateAgent:
        """Acts by the best of some samples in ``num_envs`` worlds."""
        return BaseAgent(BestOfSamples(self.base, self.critic, self.config.samples), num_envs)

    def weights(self) -> dict[str, Tensor]:
        """Of Q."""
        return prefixed("q.", self.critic.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """Everything of the algorithm that a resumed run needs, by name."""
        return {
            **self.weights(),
            **optimizer_tensors("optimizer.", self.optimizer),
            "generator": self._generator.get_state(),
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Invert `tensors`."""
        self.critic.load_state_dict(with_prefix(tensors, "q."))
        load_optimizer("optimizer.", self.optimizer, tensors)
        self._generator.set_state(tensors["generator"].cpu())

    @torch.no_grad()
    def _collect(self) -> tuple[_Rollout, dict[str, float]]:
        env = self.env
        rows: list[tuple[Tensor, ...]] = []
        outcome = OutcomeCount(env.observation.device)
        chunk = self._explore(env.observation)
        for _ in range(self.config.rollout_chunks):
            observation = env.observation
            step = env.step(chunk)
            outcome.add(step)
            following = self._explore(step.next_observation)
            rows.append(
                (
                    observation,
                    chunk,
                    self.critic(observation, chunk),
                    self.critic(step.next_observation, following),
                    step.reward,
                    step.terminated,
                    step.ended,
                )
            )
            chunk = following.clone()
            chunk[step.ended] = self._explore(env.observation[step.ended])
        return _Rollout(*(torch.stack(column) for column in zip(*rows, strict=True))), outcome.figures()

    def _explore(self, observation: Tensor) -> Tensor:
        """A chunk of the base for each observation, with noise: ``(B, T_a, 10)``, physical units."""
        chunk = self.base.sample(observation, self._normal(len(observation), *self.base.noise_shape))
        chunk = chunk[:, : self.base.action_horizon]
        deviation = torch.tensor(self.config.log_std).exp() * self.base.action_normalizer.half_range
        return chunk + deviation * self._normal(*chunk.shape)

    def _update(self, rollout: _Rollout, progress: float) -> dict[str, float]:
        config = self.config
        advantage = advantages(
            rollout.reward,
            rollout.value,
            rollout.next_value,
            rollout.terminated,
            rollout.ended,
            config.discount,
            config.trace,
        )
        value = rollout.value.flatten()
        target = advantage.flatten() + value
        observation, chunk = rollout.observation.flatten(0, 1), rollout.chunk.flatten(0, 1)
        set_rate(self.optimizer, config.critic_rate * cosine(progress))
        loss = torch.zeros(())
        for _ in range(config.epochs):
            for rows in minibatches(len(target), config.minibatches, self._generator):
                loss = 0.5 * torch.nn.functional.mse_loss(self.critic(observation[rows], chunk[rows]), target[rows])
                descend(self.optimizer, self.critic, loss, config.clip_norm)
        return {"q_loss": loss.item(), "explained_variance": explained_variance(target, value)}

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self.base.device)
