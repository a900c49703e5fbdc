"""Success of a policy in the training environment, closed loop, over seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from resip import spaces
from resip.policy.artefact import MANIFEST_FILE, load_module
from resip.trials.statistics import Success
from rich.progress import Progress, track
from torch import Tensor

from resip_training.checkpoints import is_state_run, load_teacher
from resip_training.export import ExportedPolicy
from resip_training.render.replay import Replay
from resip_training.rollout.episodes import BaseAgent, StateAgent
from resip_training.rollout.episodes import run_episodes as episodes_of
from resip_training.runs import CONFIG_FILE
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.task import Task
from resip_training.train import load_policy_of

_MAX_ENVS: Final = 8
_MAX_STATE_ENVS: Final = 64

#: (robot_state, front, wrist, noise) -> actions, batched: the exported module's signature.
Predict = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def evaluate(
    checkpoint: Path,
    episodes: int = 50,
    seed: int = 0,
    randomness: str = "low",
    threads: int = 1,
    json_path: Path | None = None,
) -> dict[str, Any]:
    """Run a policy on ``episodes`` seeds from ``seed`` on, print its success and write it to ``json_path``.

    Args:
      checkpoint: a training run, or an exported model folder.
      episodes: number of trials.
      seed: first seed.
      randomness: of the resets.
      threads: of torch and of the simulation.
      json_path: file for the figures.

    Returns:
      The figures: ``success`` and how it was measured.

    Raises:
      ResipError: neither a run nor a model, unknown randomness, or no GL to render with.
    """
    torch.set_num_threads(threads)
    if (checkpoint / CONFIG_FILE).exists() and is_state_run(checkpoint):
        return evaluate_states(checkpoint, episodes, seed, randomness, threads, json_path)
    predict, task, horizons = load(checkpoint)
    seeds = list(range(seed, seed + episodes))
    batches = [seeds[i : i + _MAX_ENVS] for i in range(0, episodes, _MAX_ENVS)]
    outcomes = [
        outcome
        for batch in track(batches, f"evaluate {task}")
        for outcome in run_episodes(predict, task, randomness, batch, horizons, threads)
    ]
    success = Success.of(outcomes, seeds)
    print(f"{checkpoint} on {task} ({randomness}), training environment: {success}")
    figures = {
        "task": task,
        "randomness": randomness,
        "checkpoint": str(checkpoint),
        "success": success.as_json(),
        "settings": {"environment": "training", "drive": "impedance", "action_horizon": horizons["action"]},
    }
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def evaluate_states(
    checkpoint: Path, episodes: int, seed: int, randomness: str, threads: int, json_path: Path | None
) -> dict[str, Any]:
    """Do what ``evaluate`` does for a policy on states; what was learned on a base is measured beside it."""
    teacher = load_teacher(checkpoint)
    seeds = range(seed, seed + episodes)
    worlds = min(episodes, _MAX_STATE_ENVS)
    env = AssemblyEnv(teacher.task, worlds, randomness, threads=threads)
    agents: dict[str, StateAgent] = {"base": BaseAgent(teacher.policy, worlds)}
    if teacher.learned is not None:
        agents[teacher.learned] = teacher.agent(worlds)
    figures: dict[str, Any] = {"task": teacher.task, "randomness": randomness, "checkpoint": str(checkpoint)}
    outcomes = {}
    with Progress() as progress:
        for name, agent in agents.items():
            bar = progress.add_task(f"evaluate {teacher.task}, {name}", total=episodes)
            outcomes[name] = episodes_of(env, agent, seeds, lambda _, bar=bar: progress.advance(bar))
    env.close()
    for name, ended in outcomes.items():
        print(f"{checkpoint} on {teacher.task} ({randomness}), {name}: {Success.of([o.success for o in ended], seeds)}")
    last = outcomes[list(agents)[-1]]
    figures |= {
        "success": Success.of([o.success for o in last], seeds).as_json(),
        "steps_of_a_success": _median([o.steps for o in last if o.success]),
        "sha256": teacher.sha256(),
        "settings": {"environment": "training", "drive": "impedance", "worlds": worlds, "threads": threads},
    }
    if teacher.learned is not None:
        base = outcomes["base"]
        figures["base_success"] = Success.of([o.success for o in base], seeds).as_json()
        figures["only_base_succeeds"] = sum(b.success and not a.success for a, b in zip(last, base, strict=True))
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _median(values: list[int]) -> float | None:
    return float(np.median(values)) if values else None


def run_episodes(
    predict: Predict, task: str, randomness: str, seeds: list[int], horizons: dict[str, int], threads: int
) -> list[bool]:
    """Run one episode for each seed, side by side; whether each succeeded."""
    env = AssemblyEnv(task, len(seeds), randomness, threads=threads)
    agent = PolicyAgent(predict, env.task, horizons, seeds)
    observation, _ = env.reset(seed=list(seeds))
    succeeded, over = np.zeros(len(seeds), dtype=bool), np.zeros(len(seeds), dtype=bool)
    while not over.all():
        actions = agent(env, observation, np.flatnonzero(~over))
        observation, _, terminated, truncated, info = env.step(actions)
        succeeded |= ~over & info["success"]
        over |= terminated | truncated
    env.close()
    agent.close()
    return succeeded.tolist()


class PolicyAgent:
    """Acts as a policy says, chunk after chunk; frames are rendered only where a chunk is predicted."""

    def __init__(self, predict: Predict, task: Task, horizons: dict[str, int], seeds: list[int]) -> None:
        """Start episodes of ``seeds``, one for each environment that will be acted in."""
        self._predict = predict
        self._replay = Replay(task)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._shape = (horizons["prediction"], spaces.ACTION_DIM)
        self._action_horizon = horizons["action"]
        self._chunk = np.zeros((len(seeds), *self._shape))
        self._step = 0

    def __call__(
        self, env: AssemblyEnv, observation: Mapping[str, NDArray[Any]], live: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Actions ``(n, 10)`` at the next step, those of the environments ``live`` from present chunks."""
        step_of_chunk = self._step % self._action_horizon
        if step_of_chunk == 0:
            self._chunk[live] = self._predicted(env, observation, live)
        self._step += 1
        return self._chunk[:, step_of_chunk]

    def _predicted(
        self, env: AssemblyEnv, observation: Mapping[str, NDArray[Any]], live: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        state, parts = observation["robot_state"][live], observation["part_poses"][live]
        width_m = state[:, spaces.STATE_GRIPPER_WIDTH.start]
        views = [self._replay.render(camera, env.joint_positions()[live], width_m, parts) for camera in spaces.CAMERAS]
        front, wrist = (torch.from_numpy(view) for view in views)
        noise = torch.stack([torch.randn(self._shape, generator=self._generators[i]) for i in live])
        with torch.inference_mode():
            return (
                self._predict(torch.from_numpy(state.astype(np.float32)), front, wrist, noise)
                .numpy()
                .astype(np.float64)
            )

    def close(self) -> None:
        """Free the renderer's GL context."""
        self._replay.close()


def load(checkpoint: Path) -> tuple[Predict, str, dict[str, int]]:
    """A policy in its exported form, its task and horizons, from a model folder or a training run.

    Raises:
      ResipError: the folder is neither.
    """
    if (checkpoint / MANIFEST_FILE).exists():
        module, manifest = load_module(checkpoint)
        return module, manifest["task"], manifest["horizons"]
    policy, config = load_policy_of(checkpoint)
    horizons = {"prediction": policy.config.prediction_horizon, "action": policy.config.action_horizon}
    return ExportedPolicy(policy).eval(), config["data"]["provenance"]["task"], horizons
