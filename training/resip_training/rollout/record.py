"""`resip rollout`: episodes of a policy on states into a data set, and how often it succeeds."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from resip import arrays, spaces
from resip.trials.statistics import Success

from resip_training.checkpoints import Teacher, load_teacher, torch_device
from resip_training.data.store import WORLD, DemoWriter, Episode, Provenance, shard_path, success_of_rollouts
from resip_training.progress import progress_bars
from resip_training.provenance import circumstances
from resip_training.rollout.disturbance import Disturbance
from resip_training.rollout.episodes import Outcome, run_episodes
from resip_training.runs import read_config
from resip_training.shards import Shard
from resip_training.sim import snapshots
from resip_training.sim.env import AssemblyEnv


def rollout(
    checkpoint: Path,
    out: Path,
    seeds: range,
    randomness: str | None = None,
    threads: int = 1,
    worlds: int = 64,
    shard: Shard | None = None,
    keep_failures: bool = False,
    disturb_m: float = 0.0,
    device: str = "cpu",
    json_path: Path | None = None,
) -> dict[str, Any]:
    """Record the episodes of a policy on states that succeed, up to the step of success, into the set ``out``.

    Of the others the set keeps that they failed, and after how many steps, so that it tells the success over all
    seeds. What is in it already stays: the same command finishes an interrupted run. An episode follows from its
    seed alone on the CPU, whichever others run beside it; they are in the set in the order in which they ended.

    Args:
      checkpoint: a training run, or a shipped teacher.
      out: folder of the set; with ``shard``, of its shards.
      seeds: of the episodes.
      randomness: of the resets; by default that which the policy was trained at.
      threads: of torch and of the simulation.
      worlds: that run side by side.
      shard: which of the seeds to take; None takes all.
      keep_failures: keep the episodes that fail as well, marked as such.
      disturb_m: mean size of the pushes off the policy's way (m), see ``disturbance``. The set has the policy's own
        actions; the success is that under the pushes.
      device: where physics and policy run, one of ``env.DEVICES``.
      json_path: file for the figures.

    Returns:
      The figures: ``success`` over all seeds that the set knows, and how it was measured.

    Raises:
      ResipError: no policy on states, a damaged one or one of another contract, unknown randomness or device, a
        disturbance that is too large, or ``out`` holds something else or cannot be written.
    """
    torch.set_num_threads(threads)
    began_s = time.monotonic()
    teacher = load_teacher(checkpoint, torch_device(device))
    level = randomness or teacher.randomness
    folder = out if shard is None else shard_path(out, shard.index, shard.count)
    env = AssemblyEnv(teacher.task, 1, level, device=device, threads=threads)
    Disturbance(1, disturb_m)  # what is too much is refused before anything is written
    kept = {"failures_kept": keep_failures, "disturbed_m": disturb_m}
    provenance = _provenance(checkpoint, teacher, env, level, device, kept)
    writer = DemoWriter(folder, provenance)
    wanted = seeds if shard is None else shard.of(seeds)
    waiting = [seed for seed in wanted if seed not in writer.outcomes]
    if waiting:
        worlds = min(worlds, len(waiting))
        env = AssemblyEnv(teacher.task, worlds, level, device=device, threads=threads)
        _play(_Recorder(env, disturb_m), teacher, waiting, len(wanted), writer, keep_failures)
    env.close()
    success = success_of_rollouts(folder)
    print(f"{checkpoint} on {teacher.task} ({level}): {success}")
    print(f"{len(writer.seeds)} episodes, {writer.n_steps} steps in {folder}")
    figures = _figures(checkpoint, folder, provenance, success) | circumstances(began_s, device)
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _provenance(
    checkpoint: Path, teacher: Teacher, env: AssemblyEnv, level: str, device: str, kept: dict[str, Any]
) -> Provenance:
    simulator = {
        "name": f"mujoco {mujoco.__version__}",
        "timestep_s": env.task.timestep_s,
        "drive": "impedance",
        "device": device.partition(":")[0],
        WORLD: snapshots.layout(env.worlds.snapshot()),
    }
    acted = {
        "checkpoint": checkpoint.resolve().name,
        "algorithm": read_config(checkpoint)["algorithm"],
        "sha256": teacher.sha256(),
        "trained_at": teacher.randomness,
        **kept,
    }
    parts = env.task.part_names
    return Provenance(teacher.task, level, "teacher", parts, simulator, images=False, rollout=acted)


def _play(
    recorder: _Recorder, teacher: Teacher, seeds: Sequence[int], total: int, writer: DemoWriter, keep_failures: bool
) -> None:
    """Run the episodes of ``seeds``, of ``total`` in all; each is in the set, or its failure, as it ends."""
    with progress_bars() as bars:
        bar = bars.add_task(f"rollout {teacher.task}", total=total, completed=total - len(seeds))

        def land(outcome: Outcome) -> None:
            """Write what has ended."""
            episode = recorder.taken(outcome)
            if outcome.success or keep_failures:
                writer.append(episode)
            else:
                writer.record_failure(outcome.seed, outcome.steps)
            bars.update(bar, advance=1, note=f"{sum(writer.outcomes.values())} succeeded")

        run_episodes(recorder, teacher.agent(recorder.num_envs), seeds, land)


class _Recorder:
    """Worlds that remember the episodes that run in them, and push what runs in them off its way by ``disturb_m``."""

    def __init__(self, env: AssemblyEnv, disturb_m: float) -> None:
        self.num_envs = env.num_envs
        self._env = env
        self._disturbance = Disturbance(env.num_envs, disturb_m) if disturb_m else None
        self._worlds: dict[int, int] = {}
        self._rows: dict[int, list[dict[str, NDArray[Any]]]] = {}

    def reset(self, *, seed: Sequence[int | None], options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start episodes, and with them their records."""
        for world in np.flatnonzero(options["reset_mask"]).tolist():
            started = seed[world]
            assert started is not None, "an episode is recorded under its seed"
            self._worlds[started], self._rows[started] = world, []
        if self._disturbance is not None:
            self._disturbance.start(options["reset_mask"], seed)
        return self._env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]:
        """Advance all worlds, and record what was seen, asked for and paid."""
        env = self._env
        seen = {
            "robot_state": env.robot_state(),
            "part_poses": env.part_poses().reshape(self.num_envs, -1),
            "joint_positions": env.joint_positions(),
        }
        columns = {name: arrays.to_host(values).astype(np.float32) for name, values in seen.items()}
        columns[WORLD] = snapshots.flatten(env.worlds.snapshot())
        outcome = env.step(self._disturbed(actions))
        columns |= {"action": arrays.to_host(actions), "reward": arrays.to_host(outcome[1])}
        for seed, world in self._worlds.items():
            self._rows[seed].append({name: values[world] for name, values in columns.items()})
        return outcome

    def _disturbed(self, actions: Any) -> Any:
        """What is executed instead of ``actions`` ``(n, 10)``."""
        if self._disturbance is None:
            return actions
        executed = arrays.copy(actions)
        executed[:, spaces.ACTION_POSITION] += arrays.like(self._disturbance.offsets_m(), actions)
        return executed

    def taken(self, outcome: Outcome) -> Episode:
        """The episode that has just ended; it is not remembered any longer."""
        del self._worlds[outcome.seed]
        rows = self._rows.pop(outcome.seed)
        columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return Episode(**columns, seed=outcome.seed, success=outcome.success)


def _figures(checkpoint: Path, folder: Path, provenance: Provenance, success: Success) -> dict[str, Any]:
    simulator = {name: value for name, value in provenance.simulator.items() if name != WORLD}
    return {
        "task": provenance.task,
        "randomness": provenance.randomness,
        **(provenance.rollout or {}),
        "checkpoint": str(checkpoint),
        "dataset": str(folder),
        "success": success.as_json(),
        "settings": simulator,
    }
