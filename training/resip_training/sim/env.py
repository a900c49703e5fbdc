"""Assembly tasks as a batch of environments: gymnasium's vector API over a physics backend."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import ArrayLike, NDArray
from resip import arrays, spaces
from resip.errors import ResipError, check_name

from resip_training.sim import success, tasks
from resip_training.sim.backend import FALLEN_BELOW_M
from resip_training.sim.drive import Drive
from resip_training.sim.physics import Physics
from resip_training.sim.task import Randomness, Task, nominal_poses
from resip_training.sim.worlds import Worlds

Array = NDArray[np.float64]
Observations = dict[str, Any]

#: Observations there are; the cameras' need GL.
STATES: Final = ("robot_state", "part_poses")
OBSERVATIONS: Final = (*STATES, *spaces.CAMERAS)
#: Chance at each control step that a part is pushed, where pushes are asked for (the reference's).
PUSH_CHANCE: Final = 0.01
#: Where the physics may run: MuJoCo on the CPU, or MuJoCo Warp on a GPU (``cuda``, or ``cuda:1`` for the second).
#: ``warp-cpu`` is what runs on the GPU, slowly, for tests.
DEVICES: Final = ("cpu", "cuda", "warp-cpu")


class AssemblyEnv(VectorEnv):
    """``num_envs`` worlds of one task, stepped together at 10 Hz.

    Observation, as chosen by ``observe``: ``robot_state`` (n, 16), ``part_poses`` (n, 7 * (parts + 1)), ``front``
    and ``wrist`` (n, 240, 320, 3) uint8; see ``spaces``. Action: (n, 10), absolute.
    Reward: 1 for every newly assembled pair. Terminated: all pairs assembled, or a part has left the table
    (``info["fallen"]``), or the physics gave a state that is no number (``info["diverged"]``: what led to it is
    saved, see ``replay_divergence``, and the last good state is observed). Truncated: the task's number of steps
    is reached.

    On another device than "cpu" all of this is tensors there, a step waits for nothing, and what diverges is put
    back and told but not saved; see ``warp_worlds``.

    An environment is reset alone through ``reset(seed=[...], options={"reset_mask": mask})``; the others
    are not touched. A seed gives the same episode whatever the number of environments or threads.
    """

    metadata: dict[str, Any] = {"render_fps": spaces.CONTROL_HZ, "autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012

    def __init__(
        self,
        task: str = "one_leg",
        num_envs: int = 1,
        randomness: str = "low",
        *,
        observe: Sequence[str] = STATES,
        pushes: float = 0.0,
        visual_seed: int | None = None,
        drive: Drive = "impedance",
        device: str = "cpu",
        threads: int = 0,
        dump_dir: Path = Path("runs/diverged"),
        worlds: Physics | None = None,
    ) -> None:
        """Build the scene and the batch.

        Args:
          task: its name.
          num_envs: how many worlds.
          randomness: level of the task's random starts.
          observe: names among ``OBSERVATIONS``.
          pushes: chance at each step that a part gets a kick like those at the start; ``PUSH_CHANCE`` or 0.
          visual_seed: draw each episode's lights, colours, textures and cameras (see ``appearance``) from this and
            the episode's seed; None shows all episodes alike. Images only: states and physics do not depend on it.
          drive: how the arm answers (see ``drive``).
          device: where the physics runs, of ``DEVICES``.
          threads: of the physics on the CPU, which also settles the starts of the other devices; 0 takes all cores.
          dump_dir: where states that diverge are saved.
          worlds: other physics than MuJoCo's here, ``num_envs`` worlds of the task; drive and threads are its own.

        Raises:
          ResipError: unknown task, randomness, observation or device, missing meshes, no GL for images, or no GPU.
        """
        self.task = tasks.get(task)
        self.num_envs = num_envs
        self._observe_names = tuple(observe)
        for name in self._observe_names:
            check_name("observation", name, OBSERVATIONS)
        level = tasks.randomness(self.task, randomness)
        self.worlds: Physics = worlds or _backend(device, self.task, num_envs, level, drive, threads, pushes)
        self.nominal_poses = nominal_poses(self.task)
        self._pushes = pushes > 0
        self._dump_dir = dump_dir
        kind = self.worlds.finite()
        self._on_device = arrays.is_tensor(kind)
        self._steps = arrays.like(np.zeros(num_envs), kind, int)
        self._latched = arrays.like(np.zeros((num_envs, len(self.task.relations))), kind, bool)
        self._visual_seed = visual_seed
        self._episode_seeds: list[int] = [0] * num_envs
        self._appearances: dict[int, Any] = {}
        self._replay: Any = None
        self._define_spaces()

    def _define_spaces(self) -> None:
        box = gymnasium.spaces.Box
        poses = spaces.PART_POSE_DIM * len(self.nominal_poses)
        image = box(0, 255, (spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3), np.uint8)
        single: dict[str, gymnasium.Space[Any]] = {
            "robot_state": box(-np.inf, np.inf, (spaces.STATE_DIM,), np.float64),
            "part_poses": box(-np.inf, np.inf, (poses,), np.float64),
            **dict.fromkeys(spaces.CAMERAS, image),
        }
        self.single_observation_space = gymnasium.spaces.Dict({name: single[name] for name in self._observe_names})
        self.single_action_space = box(-1.0, 1.0, (spaces.ACTION_DIM,), np.float64)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, self.num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start episodes.

        Args:
          seed: of environment 0, the others counting up from it; or one for each environment. None draws it.
          options: ``{"reset_mask": (n,) bool}`` resets those environments only. ``{"snapshot": {...}}`` puts them
            to states that ``worlds.snapshot()`` gave, each entry ``(n, ...)``, instead of the seeds' starts; what
            is assembled there has been paid for. ``{"steps": (n,) int}`` says how many steps their episodes have
            behind them, 0 by default, so that they end when others do.
        """
        options = options or {}
        mask = options.get("reset_mask", np.ones(self.num_envs, dtype=bool))
        seeds = self._seeds(seed)
        if "snapshot" in options:
            self.worlds.restore(options["snapshot"], arrays.like(mask, self._latched, bool))
        else:
            self.worlds.reset(mask, seeds)
        if self._visual_seed is not None:
            self._change_looks(arrays.to_host(mask), seeds)
        mask = arrays.like(mask, self._latched, bool)
        steps = arrays.like(options.get("steps", np.zeros(self.num_envs)), self._steps, int)
        self._steps[:] = arrays.namespace(mask).where(mask, steps, self._steps)
        self._latched &= ~mask[:, None]
        if "snapshot" in options:
            self._latched |= mask[:, None] & success.assembled(self.task, self.part_poses())
        return self._observe(), {}

    def _change_looks(self, mask: NDArray[np.bool_], seeds: Sequence[int | None]) -> None:
        for i in np.flatnonzero(mask):
            self._episode_seeds[i] = seeds[int(i)] or 0  # a start that the device chose has no seed here
            self._appearances.pop(int(i), None)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        """One seed for each environment; None where a device is to choose of the starts that it has."""
        if isinstance(seed, (int, np.integer)):
            seed = range(int(seed), int(seed) + self.num_envs)
        given = [None] * self.num_envs if seed is None else list(seed)
        if len(given) != self.num_envs:
            raise ResipError(f"reset takes one seed for each of the {self.num_envs} environments, got {len(given)}")
        for one in given:
            if one is not None and one < 0:
                raise ResipError(f"a seed is 0 or greater, got {one}")
        if self._on_device:
            return given
        fresh = np.random.SeedSequence().generate_state(self.num_envs)
        return [int(new if chosen is None else chosen) for chosen, new in zip(given, fresh, strict=True)]

    def state(self) -> dict[str, Any]:
        """Everything that decides how the episodes go on, each entry ``(n, ...)``, but the pushes to come."""
        return {
            **self.worlds.snapshot(),
            "episode_steps": arrays.copy(self._steps),
            "episode_latched": arrays.copy(self._latched),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.worlds.restore(state, arrays.like(np.ones(self.num_envs), self._latched, bool))
        self._steps[:], self._latched[:] = state["episode_steps"], state["episode_latched"]

    def step(self, actions: ArrayLike) -> tuple[Observations, Any, Any, Any, dict[str, Any]]:
        """Advance all environments by one control step (0.1 s) with actions ``(n, 10)``."""
        before = self.worlds.snapshot()
        if self._pushes:
            self.worlds.push()
        self.worlds.step(actions)
        self._steps += 1
        return self._outcome(self._guard(before, actions))

    def _guard(self, before: dict[str, Any], actions: ArrayLike) -> Any:
        """Which worlds diverged; they are put back to ``before``."""
        diverged = ~self.worlds.finite()
        if not self._on_device:
            if not diverged.any():
                return diverged
            _dump(self._dump_dir, self.task.name, before, np.asarray(actions), np.flatnonzero(diverged))
        self.worlds.restore(before, diverged)
        return diverged

    def _outcome(self, diverged: Any) -> tuple[Observations, Any, Any, Any, dict[str, Any]]:
        xp = arrays.namespace(diverged)
        poses = self.part_poses()
        now = success.assembled(self.task, poses)
        reward = arrays.floats(xp.sum(now & ~self._latched, axis=-1))
        self._latched |= now
        fallen = xp.any(poses[:, :-1, 2] < FALLEN_BELOW_M, axis=-1)
        done = self._latched.all(axis=-1)
        terminated = done | fallen | diverged
        truncated = ~terminated & (self._steps >= self.task.max_steps)
        return self._observe(), reward, terminated, truncated, {"success": done, "fallen": fallen, "diverged": diverged}

    def joint_positions(self) -> Any:
        """Arm joints, rad, ``(n, 7)``."""
        return self.worlds.joint_positions()

    def robot_state(self) -> Any:
        """The contract's robot state, ``(n, 16)``."""
        return self.worlds.robot_state()

    def part_poses(self) -> Any:
        """Part poses and the obstacle's, base frame, ``(n, n_parts + 1, 7)``, quaternions in a fixed hemisphere."""
        return self.worlds.part_poses()

    def _observe(self) -> Observations:
        seen: Observations = {}
        for name in self._observe_names:
            if name == "robot_state":
                seen[name] = self.robot_state()
            elif name == "part_poses":
                seen[name] = self.part_poses().reshape(self.num_envs, -1)
            else:
                seen[name] = self.images(name)
        return seen

    def images(self, camera: str) -> NDArray[np.uint8]:
        """Rendered views ``(n, 240, 320, 3)`` of ``camera`` ("front" or "wrist"), on the host.

        Raises:
          RenderingError: no GL.
        """
        if self._replay is None:
            from resip_training.render.replay import Replay  # needs GL: only when images are asked for

            self._replay = Replay(self.task)
        width_m = self.robot_state()[:, spaces.STATE_GRIPPER_WIDTH.start]
        poses = self.part_poses().reshape(self.num_envs, -1)
        joints, width_m, poses = map(arrays.to_host, (self.joint_positions(), width_m, poses))
        frames = []
        for i in range(self.num_envs):
            if self._visual_seed is not None:
                self._replay.show(self._appearance(i, self._visual_seed))
            frames.append(self._replay.render_one(camera, joints[i], width_m[i], poses[i]))
        return np.stack(frames)

    def _appearance(self, i: int, visual_seed: int) -> Any:
        if i not in self._appearances:
            self._appearances[i] = self._replay.appearances.draw(visual_seed, self._episode_seeds[i])
        return self._appearances[i]

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer's GL context."""
        if self._replay is not None:
            self._replay.close()
            self._replay = None


def _backend(
    device: str, task: Task, num_envs: int, level: Randomness, drive: Drive, threads: int, pushes: float
) -> Physics:
    kind = device.partition(":")[0]
    check_name("device", kind, DEVICES)
    if kind == "cpu":
        return Worlds(task, num_envs, level, drive, threads, pushes)
    try:
        from resip_training.sim import warp_worlds  # only when asked for
    except ImportError as error:
        raise ResipError(
            f"device {device!r} needs the packages of the extra 'gpu': pip install -e 'training[gpu]' ({error})"
        ) from error

    return warp_worlds.WarpWorlds(task, num_envs, level, device.removeprefix("warp-"), drive, threads, pushes)


def _dump(folder: Path, task: str, before: dict[str, Array], actions: Array, ids: NDArray[np.int64]) -> None:
    """Save the worlds ``ids`` as they were ``before`` a step, and the step's actions, for ``replay_divergence``."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in ids:
        path = folder / f"{task}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{i}.npz"
        rows: dict[str, Any] = {f"state_{name}": values[i] for name, values in before.items()}
        np.savez(path, task=task, action=actions[i], **rows)


def replay_divergence(path: Path) -> NDArray[np.bool_]:
    """Repeat the control step that a saved divergence came from; whether its state is finite, ``(1,)``.

    Raises:
      ResipError: no such file, or not one that the guard of ``AssemblyEnv`` wrote.
    """
    try:
        saved = dict(np.load(path))
        task, action = tasks.get(str(saved.pop("task"))), saved.pop("action")
        worlds = Worlds(task, 1, next(iter(task.randomness.values())), threads=1)
        state = {name: saved[f"state_{name}"][None] for name in worlds.snapshot()}
    except (OSError, ValueError, KeyError) as error:
        raise ResipError(f"{path} is not a saved divergence of the simulation here: {error}") from error
    worlds.restore(state, np.array([True]))
    worlds.step(action[None])
    return worlds.finite()
