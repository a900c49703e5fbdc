"""Off-policy residual reinforcement learning: every control step is learned from many times.

A frozen base acts, a deterministic actor corrects each of its actions, and an ensemble of critics values what was
executed. The recipe is that of RLPD (arXiv 2302.02948: ensemble with LayerNorm, half of each batch from prior data,
minimum over a random pair as in REDQ, arXiv 2101.05982) with a deterministic actor and n-step returns, as "Residual
Off-Policy RL for Finetuning Behavior Cloning Policies" (arXiv 2509.19301) has them on a frozen base. The optional
choice between base and corrected action by their values is that of IBRL (arXiv 2311.02198).
Where this differs, `ResidualOffPolicyConfig` says so and why; the inputs are whitened, see `Whitening`.
"""

from __future__ import annotations

import copy
from typing import Final, Protocol

import torch
from resip.errors import ResipError
from torch import Tensor, nn

from resip_training.algorithms.average import follow
from resip_training.algorithms.replay import NStepQueue, ReplayBuffer, Transitions
from resip_training.algorithms.settings import ResidualOffPolicyConfig
from resip_training.models.offpolicy_residual import OffPolicyResidual
from resip_training.rollout.training_worlds import Step
from resip_training.runs import load_optimizer, optimizer_tensors, prefixed, with_prefix

_TARGET_CRITICS: Final = 2  # of the ensemble, drawn anew for every target (REDQ, RLPD)


class ResidualWorlds(Protocol):
    """What is needed of a `ResidualEnv`."""

    num_envs: int
    observation_dim: int
    action_dim: int

    @property
    def observation(self) -> Tensor:
        """What is seen now, and the base's action for it ``(n, observation_dim)``."""
        ...

    def step(self, residual: Tensor) -> Step:
        """Execute base + alpha * ``residual`` ``(n, action_dim)``; finished worlds start again afterwards."""
        ...


class ResidualOffPolicy:
    """The algorithm: one control step in every world, then the updates that are due.

    First, for ``config.warmup`` control steps, the base acts with noise around it; these steps and the demonstrations
    are the prior data. Then the critics learn, and after ``config.critic_first`` updates the actor does, too.

    Args:
      config: settings.
      env: where it acts.
      max_return: largest sum of an episode's rewards: the pairs to assemble. Targets are kept between 0 and this,
        so that no value can run away.
      demonstrations: transitions to learn from beside its own; None for none.
    """

    def __init__(
        self,
        config: ResidualOffPolicyConfig,
        env: ResidualWorlds,
        max_return: float = 1.0,
        demonstrations: Transitions | None = None,
    ) -> None:
        _check(config, env.num_envs, demonstrations)
        self.config, self.env, self.max_return, self.iteration = config, env, max_return, 0
        torch.manual_seed(config.seed)
        device = env.observation.device
        sizes = (env.observation_dim, env.action_dim)
        #: What acts: the average of the actor that learns, and the slow critics that targets are taken from.
        self.model = OffPolicyResidual(*sizes, config.width, config.critics, config.max_q).to(device)
        self.actor, self.critics = copy.deepcopy(self.model.actor), copy.deepcopy(self.model.critics)
        self.model.requires_grad_(False)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.actor_rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=config.critic_rate, fused=True)
        self.queue = NStepQueue(env.num_envs, *sizes, config.n_steps, config.discount, device)
        n_demonstrated = 0 if demonstrations is None else len(demonstrations)
        self.prior = ReplayBuffer(n_demonstrated + config.warmup + env.num_envs, *sizes, device)
        self.online = ReplayBuffer(config.capacity, *sizes, device)
        if demonstrations is not None:
            self.prior.add(demonstrations)
        self._generator = torch.Generator(device).manual_seed(config.seed)
        low, high = config.noise
        share = (torch.arange(env.num_envs, device=device).unsqueeze(-1) + 0.5) / env.num_envs
        self._deviation = low + (high - low) * share
        self._noise = torch.zeros(env.num_envs, env.action_dim, device=device)  # in units of that

    def iterate(self, progress: float) -> dict[str, float]:
        """Act one control step in every world, then do the updates that are due; what is logged.

        Args:
          progress: how much of the run is done; nothing here depends on it.
        """
        del progress
        figures = self._collect()
        first = self.updates
        self.iteration += 1
        if first == 0 < self.updates:
            self.model.whitening.fit(self.prior.unpack(self.prior.rows).observation)
        for update in range(first, self.updates):
            actor_learns = update >= self.config.critic_first and update % self.config.actor_delay == 0
            figures |= self._update(actor_learns)
        return figures

    @property
    def steps_per_iteration(self) -> int:
        """One control step of every world."""
        return self.env.num_envs

    @property
    def updates(self) -> int:
        """Of the critics, up to now."""
        learned_from = self.iteration * self.steps_per_iteration - self.config.warmup
        return max(0, int(learned_from * self.config.update_ratio))

    @torch.no_grad()
    def act(self, observation: Tensor) -> Tensor:
        """The residual without exploration."""
        return self.model(observation)

    def weights(self) -> dict[str, Tensor]:
        """Of what acts."""
        return prefixed("residual.", self.model.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """Everything of the algorithm that a resumed run needs, by name."""
        return {
            **self.weights(),
            **prefixed("actor.", self.actor.state_dict()),
            **prefixed("critics.", self.critics.state_dict()),
            **optimizer_tensors("actor_optimizer.", self.actor_optimizer),
            **optimizer_tensors("critic_optimizer.", self.critic_optimizer),
            **prefixed("queue.", self.queue.state()),
            **prefixed("prior.", self.prior.state()),
            **prefixed("online.", self.online.state()),
            "noise": self._noise,
            "generator": self._generator.get_state(),
            "iteration": torch.tensor(self.iteration),
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Invert `tensors`."""
        self.model.load_state_dict(with_prefix(tensors, "residual."))
        self.actor.load_state_dict(with_prefix(tensors, "actor."))
        self.critics.load_state_dict(with_prefix(tensors, "critics."))
        load_optimizer("actor_optimizer.", self.actor_optimizer, tensors)
        load_optimizer("critic_optimizer.", self.critic_optimizer, tensors)
        self.queue.load_state(with_prefix(tensors, "queue."))
        self.prior.load_state(with_prefix(tensors, "prior."))
        self.online.load_state(with_prefix(tensors, "online."))
        self._noise.copy_(tensors["noise"])
        self._generator.set_state(tensors["generator"].cpu())
        self.iteration = int(tensors["iteration"])

    @torch.no_grad()
    def _collect(self) -> dict[str, float]:
        """Act one control step in every world and remember it."""
        observation = self.env.observation.clone()
        residual = self._explored(observation)
        step = self.env.step(residual)
        transitions = self.queue.push(
            observation, residual, step.reward, step.terminated, step.truncated, step.next_observation
        )
        (self.online if self.updates > 0 else self.prior).add(transitions)
        ended = step.terminated | step.truncated
        return {"episodes": float(ended.sum()), "training_successes": float((ended & step.success).sum())}

    def _explored(self, observation: Tensor) -> Tensor:
        """The actor's residual with noise, or zero where the base alone is chosen."""
        whitened = self.model.whitening(observation)
        fresh, memory = self._randn(self._noise.shape), self.config.noise_memory
        self._noise = memory * self._noise + (1 - memory**2) ** 0.5 * fresh
        residual = (self.actor(whitened) + self._deviation * self._noise).clamp(-1, 1)
        return residual if self.updates <= self.config.critic_first else self.model.chosen(whitened, residual)

    def _randn(self, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self._noise.device)

    def _update(self, actor_learns: bool) -> dict[str, float]:
        """Update the critics and their slow copies, and the actor if it is its turn."""
        batch = self._batch()
        whitened = self.model.whitening(batch.observation)
        loss = self._critic_loss(whitened, batch)
        _descend(self.critic_optimizer, self.critics, loss)
        follow(self.model.critics, self.critics, self.config.target_rate)
        figures = {"loss/critics": loss.item()}
        if actor_learns:
            actor_loss = self._actor_loss(whitened)
            _descend(self.actor_optimizer, self.actor, actor_loss)
            follow(self.model.actor, self.actor, self.config.average_rate)
            figures["loss/actor"] = actor_loss.item()
        return figures

    def _batch(self) -> Transitions:
        """Prior and own transitions in their proportion; prior ones alone until there are others."""
        size = self.config.batch_size
        n_prior = round(size * self.config.prior_share) if len(self.online) > 0 else size
        rows = self.prior.sample(n_prior, self._generator)
        if n_prior < size:
            rows = torch.cat([rows, self.online.sample(size - n_prior, self._generator)])
        return self.prior.unpack(rows)

    def _critic_loss(self, whitened: Tensor, batch: Transitions) -> Tensor:
        """Mean squared error, summed over the critics."""
        values = self.critics(torch.cat([whitened, batch.residual], dim=-1))
        return (values - self._target(batch)).square().mean(dim=-1).sum()

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        """What the critics should say ``(B,)``: the rewards, and the discounted value of where they led."""
        whitened = self.model.whitening(batch.next_observation)
        pair = torch.randperm(self.config.critics, generator=self._generator, device=whitened.device)[:_TARGET_CRITICS]
        residual = self.actor(whitened)
        residual = (residual + self.config.target_noise * self._randn(residual.shape)).clamp(-1, 1)
        value = self.model.critics(torch.cat([whitened, residual], dim=-1), pair).amin(dim=0)
        if self.config.max_q:
            base = self.model.critics(torch.cat([whitened, torch.zeros_like(residual)], dim=-1), pair).amin(dim=0)
            value = torch.maximum(value, base)
        return (batch.reward + batch.discount * value).clamp(0, self.max_return)

    def _actor_loss(self, whitened: Tensor) -> Tensor:
        """Minus the critics' mean value of the corrected actions, plus the penalty on correcting."""
        residual = self.actor(whitened)
        value = self.critics(torch.cat([whitened, residual], dim=-1)).mean()
        return self.config.residual_penalty * residual.square().mean() - value


def _check(config: ResidualOffPolicyConfig, num_envs: int, demonstrations: Transitions | None) -> None:
    if config.critics < _TARGET_CRITICS:
        raise ResipError(f"critics {config.critics} are too few: a target takes the minimum over {_TARGET_CRITICS}")
    least = num_envs * config.n_steps
    if demonstrations is None and config.warmup < least:
        raise ResipError(
            f"warmup {config.warmup} leaves nothing to begin learning from: give demonstrations, or at least {least}"
            f" control steps ({config.n_steps} in each of {num_envs} worlds)"
        )


def _descend(optimizer: torch.optim.Optimizer, module: nn.Module, loss: Tensor) -> None:
    """One step down ``loss`` by the parameters of ``module`` alone: no others' gradients are worked out."""
    parameters = list(module.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
