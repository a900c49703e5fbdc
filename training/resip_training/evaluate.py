"""Success of a policy in the training environment, closed loop, over seeds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from resip import spaces
from resip.errors import ResipError
from resip.policy.artefact import MANIFEST_FILE, MODULE_FILE, load_module
from resip.progress import bars
from resip.trials.statistics import Success
from torch import Tensor

from resip_training.checkpoints import is_state_run, load_teacher, sha256, torch_device
from resip_training.export import ExportedPolicy
from resip_training.provenance import circumstances
from resip_training.render.replay import Replay
from resip_training.rollout.episodes import BaseAgent, StateAgent
from resip_training.rollout.episodes import run_episodes as episodes_of
from resip_training.runs import CHECKPOINT_FILE, best_step, read_config, write_text
from resip_training.sim import tasks
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
    randomness: str | None = None,
    threads: int = 1,
    device: str = "cpu",
    json_path: Path | None = None,
    random_looks: bool = False,
) -> dict[str, Any]:
    """Run a policy on ``episodes`` seeds from ``seed`` on, and print its success; a base with residual beside its base.

    The figures are written to ``json_path``, and into the folder of a training run, where `resip report` finds them:
    those of the plain cell.

    Args:
      checkpoint: a training run, a shipped teacher, or an exported model folder.
      episodes: number of trials.
      seed: first seed.
      randomness: of the resets; by default that which the policy was trained at.
      threads: of torch and of the simulation.
      device: where the physics and a policy on states run, one of ``env.DEVICES``.
      json_path: file for the figures.
      random_looks: every episode has the lights, colours, textures and cameras of its seed, as the simulated cell's
        ``random_looks`` has them; for a policy on images.

    Returns:
      The figures: ``success`` and how it was measured.

    Raises:
      ResipError: neither a run nor a model, a damaged one or one of another contract, unknown randomness or device,
        random looks for a policy that sees nothing, or no GL to render with.
    """
    torch.set_num_threads(threads)
    began_s = time.monotonic()
    seeds = range(seed, seed + episodes)
    if is_state_run(checkpoint):
        if random_looks:
            raise ResipError(f"{checkpoint} acts on states: how the cell looks makes no difference to it")
        figures = _evaluate_states(checkpoint, seeds, randomness, threads, device)
    else:
        figures = _evaluate_images(checkpoint, seeds, randomness, threads, device, random_looks)
    figures |= circumstances(began_s, device)
    text = json.dumps(figures, indent=2) + "\n"
    if json_path is not None:
        json_path.write_text(text)
    if (checkpoint / CHECKPOINT_FILE).exists() and not random_looks:
        write_text(checkpoint / f"evaluation_{figures['randomness']}_{seed}_{episodes}.json", text)
    return figures


def _evaluate_states(
    checkpoint: Path, seeds: Sequence[int], randomness: str | None, threads: int, device: str
) -> dict[str, Any]:
    teacher, config = load_teacher(checkpoint, torch_device(device)), read_config(checkpoint)
    level = _level(checkpoint, teacher.task, randomness, teacher.randomness)
    worlds = min(len(seeds), _MAX_STATE_ENVS)
    env = AssemblyEnv(teacher.task, worlds, level, device=device, threads=threads)
    agents: dict[str, StateAgent] = {"base": BaseAgent(teacher.policy, worlds)}
    if teacher.learned is not None:
        agents[teacher.learned] = teacher.agent(worlds)
    outcomes = {}
    with bars("episodes") as progress:
        for name, agent in agents.items():
            bar = progress.add_task(f"evaluate {teacher.task}, {name}", total=len(seeds))
            outcomes[name] = episodes_of(env, agent, seeds, lambda _, bar=bar: progress.advance(bar))
    env.close()
    successes = {name: Success.of([one.success for one in ended], seeds) for name, ended in outcomes.items()}
    for name, success in successes.items():
        print(f"{checkpoint} on {teacher.task} ({level}), {name}: {success}")
    ended = outcomes[list(agents)[-1]]
    figures: dict[str, Any] = {
        "task": teacher.task,
        "randomness": level,
        "trained_at": teacher.randomness,
        "checkpoint": str(checkpoint),
        "sha256": teacher.sha256(),
        "learned": _learned(config["algorithm"], config),
        "training": {
            "step": config["best_step"] if "best_step" in config else best_step(checkpoint),
            "settings": config["settings"],
        },
        "success": successes[list(agents)[-1]].as_json(),
        "steps_of_a_success": _median([one.steps for one in ended if one.success]),
        "settings": {**_settings(env.task, device), "worlds": worlds, "threads": threads},
    }
    if teacher.learned is not None:
        pairs = [(alone.success, both.success) for alone, both in zip(outcomes["base"], ended, strict=True)]
        figures["base_success"] = successes["base"].as_json()
        figures["only_base_succeeds"] = sum(alone and not both for alone, both in pairs)
        figures["only_with_residual_succeeds"] = sum(both and not alone for alone, both in pairs)
    return figures


def _evaluate_images(
    checkpoint: Path, seeds: Sequence[int], randomness: str | None, threads: int, device: str, random_looks: bool
) -> dict[str, Any]:
    if device != "cpu":
        raise ResipError(
            f"a policy on images is evaluated on the device cpu, where the frames are rendered, not {device}"
        )
    policy = load(checkpoint)
    level = _level(checkpoint, policy.task, randomness, policy.randomness)
    batches = [seeds[i : i + _MAX_ENVS] for i in range(0, len(seeds), _MAX_ENVS)]
    outcomes = []
    with bars("episodes") as progress:
        bar = progress.add_task(f"evaluate {policy.task}", total=len(seeds))
        for batch in batches:
            outcomes += run_episodes(
                policy.predict, policy.task, level, list(batch), policy.horizons, threads, random_looks
            )
            progress.advance(bar, len(batch))
    success = Success.of(outcomes, seeds)
    print(f"{checkpoint} on {policy.task} ({level}), training environment: {success}")
    return {
        "task": policy.task,
        "randomness": level,
        "trained_at": policy.randomness,
        "checkpoint": str(checkpoint),
        "sha256": policy.sha256,
        "learned": policy.learned,
        "success": success.as_json(),
        "settings": {
            **_settings(tasks.get(policy.task), device),
            "threads": threads,
            "action_horizon": policy.horizons["action"],
            "random_looks": random_looks,
        },
    }


def _learned(algorithm: str, made: Mapping[str, Any]) -> dict[str, Any]:
    """How a policy learned, what it sees, and which data it was cloned from.

    Args:
      algorithm: its name.
      made: a run's configuration or a model's manifest.
    """
    data = made.get("data") if algorithm == "bc" else None
    return {
        "algorithm": algorithm,
        "observation": made["contract"]["observation"],
        "data": None
        if data is None
        else {
            "source": data["provenance"]["source"],
            **{name: data[name] for name in ("n_demonstrations", "n_steps", "sha256")},
        },
    }


def _level(checkpoint: Path, task: str, asked: str | None, trained_at: str) -> str:
    """The randomness to evaluate at."""
    tasks.randomness(tasks.get(task), asked or trained_at)
    if asked not in (None, trained_at):
        print(f"{checkpoint} was trained at {trained_at} randomness and is evaluated at {asked}")
    return asked or trained_at


def _settings(task: Task, device: str) -> dict[str, Any]:
    return {
        "environment": "training",
        "drive": "impedance",
        "simulator": f"mujoco {mujoco.__version__}",
        "timestep_s": task.timestep_s,
        "max_steps": task.max_steps,
        "device": device,
    }


def _median(values: list[int]) -> float | None:
    return float(np.median(values)) if values else None


def run_episodes(
    predict: Predict,
    task: str,
    randomness: str,
    seeds: list[int],
    horizons: dict[str, int],
    threads: int,
    random_looks: bool = False,
) -> list[bool]:
    """Run one episode for each seed, side by side; whether each succeeded."""
    env = AssemblyEnv(task, len(seeds), randomness, threads=threads)
    agent = PolicyAgent(predict, env.task, horizons, seeds, random_looks)
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

    def __init__(
        self, predict: Predict, task: Task, horizons: dict[str, int], seeds: list[int], random_looks: bool = False
    ) -> None:
        """Start episodes of ``seeds``, one for each environment to act in; plain, or with looks of their own."""
        self._predict = predict
        self._replay = Replay(task)
        looks = self._replay.appearances
        self._looks = [looks.draw(seed) if random_looks else looks.nominal for seed in seeds]
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
        state = observation["robot_state"][live]
        front, wrist = (torch.from_numpy(view) for view in self._views(env, observation, live))
        noise = torch.stack([torch.randn(self._shape, generator=self._generators[i]) for i in live])
        with torch.inference_mode():
            return (
                self._predict(torch.from_numpy(state.astype(np.float32)), front, wrist, noise)
                .numpy()
                .astype(np.float64)
            )

    def _views(
        self, env: AssemblyEnv, observation: Mapping[str, NDArray[Any]], live: NDArray[np.int64]
    ) -> list[NDArray[np.uint8]]:
        """What each camera sees of the environments ``live``, of each as it looks: ``(n, height, width, 3)``."""
        joints_rad, parts = env.joint_positions(), observation["part_poses"]
        width_m = observation["robot_state"][:, spaces.STATE_GRIPPER_WIDTH.start]
        views: dict[str, list[NDArray[np.uint8]]] = {camera: [] for camera in spaces.CAMERAS}
        for i in live.tolist():
            self._replay.show(self._looks[i])
            for camera, frames in views.items():
                frames.append(self._replay.render_one(camera, joints_rad[i], float(width_m[i]), parts[i]))
        return [np.stack(frames) for frames in views.values()]

    def close(self) -> None:
        """Free the renderer's GL context."""
        self._replay.close()


@dataclass(frozen=True)
class ImagePolicy:
    """A policy on images in its exported form, and what it was made for.

    Attributes:
      predict: the exported module's signature.
      task: that it was trained on.
      randomness: of its demonstrations.
      horizons: ``prediction`` and ``action``.
      sha256: of its weights, or of the exported file.
      learned: how, and from what.
    """

    predict: Predict
    task: str
    randomness: str
    horizons: dict[str, int]
    sha256: str
    learned: dict[str, Any]


def load(checkpoint: Path) -> ImagePolicy:
    """Load a policy on images from a model folder or a training run.

    Raises:
      ResipError: the folder is neither.
    """
    if (checkpoint / MANIFEST_FILE).exists():
        module, manifest = load_module(checkpoint)
        level = manifest["data"]["provenance"]["randomness"]
        learned = _learned(manifest["training"]["algorithm"], manifest)
        hashed = manifest["sha256"][MODULE_FILE]
        return ImagePolicy(module, manifest["task"], level, manifest["horizons"], hashed, learned)
    policy, config = load_policy_of(checkpoint)
    horizons = {"prediction": policy.config.prediction_horizon, "action": policy.config.action_horizon}
    made_from = config["data"]["provenance"]
    predict = ExportedPolicy(policy).eval()
    learned, hashed = _learned(config["algorithm"], config), sha256(policy.state_dict())
    return ImagePolicy(predict, made_from["task"], made_from["randomness"], horizons, hashed, learned)
