"""`resip collect --source keyboard|spacemouse`: demonstrations by hand in the training environment.

The world goes on only while the operator moves, or the gripper does, so that a demonstration has no idle steps and
no gaps. The environment judges: an episode that succeeds is kept; any other, and one that the operator discards, is
begun again from the same start.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray
from resip import spaces
from resip.errors import check_name
from resip.teleop.hidraw import open_spacemouse
from resip.teleop.keyboard import HELP, Keyboard
from resip.teleop.profile import PROFILES, PROFILES_OF, Profile
from resip.teleop.source import Button, Motion, Source, SourceError
from resip.teleop.spacemouse import SpaceMouse
from resip.teleop.target import Target, TargetGenerator
from resip.teleop.terminal import own_terminal
from rich.console import Console

from resip_training.data.collect import as_episode
from resip_training.data.store import WORLD, DemoWriter, Provenance
from resip_training.experts.rollout import Trajectory
from resip_training.play import TILE_HEIGHT_PX, TILE_WIDTH_PX, open_viewer
from resip_training.render.replay import Replay
from resip_training.sim import snapshots, tasks
from resip_training.sim.env import AssemblyEnv

Array = NDArray[np.float64]

#: What one press takes back.
UNDO_STEPS: Final = 20
_RETRY_S: Final = 1.0

#: Shows the present state to the operator; False when they closed the window.
Watch = Callable[[AssemblyEnv], bool]


class Hand:
    """A source that is read in the calling thread, for a control period at a time.

    A device that is lost is told once, and tried again.
    """

    def __init__(self, source: Source, say: Callable[[str], None], period_s: float = spaces.CONTROL_PERIOD_S) -> None:
        self._source = source
        self._say = say
        self._period_s = period_s
        self._is_open = False
        self._told = ""
        self._retry_at_s = 0.0

    def motion(self) -> Motion | None:
        """Read for one period; what the operator asked for, None where nothing may be taken for input."""
        until_s = time.monotonic() + self._period_s
        try:
            self._open()
            while self._is_open and (left_s := until_s - time.monotonic()) > 0:
                self._source.read(left_s)
        except SourceError as error:
            self.close()
            self._retry_at_s = time.monotonic() + _RETRY_S
            self._tell(f"{error}; trying again")
        time.sleep(max(0.0, until_s - time.monotonic()))
        if not self._is_open:
            return None
        sample = self._source.sample(time.monotonic())
        self._tell(sample if isinstance(sample, str) else "")
        return None if isinstance(sample, str) else sample

    def _open(self) -> None:
        if not self._is_open and time.monotonic() >= self._retry_at_s:
            self._say(f"reading {self._source.open()}")
            self._is_open = True

    def _tell(self, problem: str) -> None:
        if problem and problem != self._told:
            self._say(f"holding: {problem}")
        self._told = problem

    def close(self) -> None:
        """Let the device go."""
        self._source.close()
        self._is_open = False


class Attempt:
    """One episode by hand, from a seed's start until it ends or is given up."""

    def __init__(self, env: AssemblyEnv, seed: int, targets: TargetGenerator) -> None:
        self._env, self._seed, self._targets = env, seed, targets
        self._rows: list[tuple[Array, Array, Array, Array, Array, float]] = []
        env.reset(seed=seed)
        targets.reset()

    def __len__(self) -> int:
        return len(self._rows)

    def advance(self, motion: Motion) -> Trajectory | None:
        """Take one control step, if the operator asks for one; the episode when it ended with that."""
        state = self._env.robot_state()[0]
        pose = spaces.action_pose(np.append(state[: spaces.ACTION_GRIPPER.start], 0.0))
        target = self._targets.step(motion, pose, float(state[spaces.STATE_GRIPPER_WIDTH.start]))
        return None if target is None else self._step(state, target)

    def _step(self, state: Array, target: Target) -> Trajectory | None:
        env = self._env
        action = spaces.pack_action(target.pose.position, target.pose.matrix, target.gripper)
        world = snapshots.flatten(env.worlds.snapshot())[0]
        seen = state, env.part_poses()[0].ravel(), env.joint_positions()[0]
        _, reward, terminated, truncated, info = env.step(action[None])
        self._rows.append((*seen, action, world, float(reward[0])))
        if not (terminated[0] or truncated[0]):
            return None
        state, parts, joints, actions, worlds, rewards = (np.array(column) for column in zip(*self._rows, strict=True))
        success, fallen = bool(info["success"][0]), bool(info["fallen"][0])
        return Trajectory(self._seed, success, fallen, state, parts, joints, actions, rewards, worlds)

    def undo(self) -> None:
        """Go back ``UNDO_STEPS`` steps, or to the start: world, gripper and recording."""
        if not self._rows:
            return
        first = max(0, len(self._rows) - UNDO_STEPS)
        _, _, _, _, world, _ = self._rows[first]
        snapshot = snapshots.unflatten(world[None], self._env.worlds.snapshot())
        self._env.reset(options={"reset_mask": np.array([True]), "snapshot": snapshot})
        self._targets.reset(float(self._rows[first - 1][3][-1]) if first else None)
        del self._rows[first:]


def operate(
    task: str,
    demos: int,
    seed: int,
    randomness: str,
    out: Path,
    source: Source,
    profile: Profile,
    watch: Watch,
    images: bool = True,
    period_s: float = spaces.CONTROL_PERIOD_S,
) -> None:
    """Record successful episodes by hand until ``out`` holds ``demos``, or the window is closed.

    Args:
      task: name of the task.
      demos: how many the set is to hold; one that has some is completed.
      seed: first seed.
      randomness: level of the resets.
      out: folder of the set.
      source: what the operator moves the robot with.
      profile: how fast.
      watch: shows the world.
      images: whether to render both cameras of what is kept.
      period_s: wall time of a control step.

    Raises:
      ResipError: unknown task or randomness, ``out`` holds something else, or no GL to render with.
    """
    env = AssemblyEnv(task, 1, randomness, threads=1)
    simulator = {
        "name": f"mujoco {mujoco.__version__}",
        "timestep_s": env.task.timestep_s,
        "drive": "impedance",
        WORLD: snapshots.layout(env.worlds.snapshot()),
    }
    writer = DemoWriter(out, Provenance(task, randomness, "teleop", env.task.part_names, simulator, images=images))
    replay = Replay(env.task) if images else None
    say = Console(highlight=False, soft_wrap=True).print
    hand = Hand(source, say, period_s)
    fresh = (s for s in itertools.count(seed) if s not in writer.seeds)
    try:
        while len(writer.seeds) < demos:
            start = next(fresh)
            say(f"demonstration {len(writer.seeds) + 1} of {demos}, seed {start}")
            run = _until_success(env, start, hand, TargetGenerator(profile), watch, say)
            if run is None:
                break
            writer.append(as_episode(run, replay))
    finally:
        hand.close()
        env.close()
        if replay is not None:
            replay.close()
    say(f"{len(writer.seeds)} demonstrations, {writer.n_steps} steps in {out}")


def _until_success(
    env: AssemblyEnv, seed: int, hand: Hand, targets: TargetGenerator, watch: Watch, say: Callable[[str], None]
) -> Trajectory | None:
    """Attempts at one start until one succeeds; None when the operator closed the window."""
    attempt = Attempt(env, seed, targets)
    while watch(env):
        motion = hand.motion()
        if motion is None:
            targets.release()
            continue
        if Button.UNDO in motion.pressed:
            attempt.undo()
        run = attempt.advance(motion)
        if run is not None and run.success:
            say(f"kept: {len(run)} steps")
            return run
        if run is not None or Button.DISCARD in motion.pressed:
            why = "discarded" if run is None else "a part left the table" if run.fallen else "out of time"
            say(f"{why} after {len(attempt)} steps: again from the same start")
            attempt = Attempt(env, seed, targets)
    return None


def operate_in_viewer(
    task: str, demos: int, seed: int, randomness: str, out: Path, source: str, profile: str, images: bool
) -> None:
    """Do what ``operate`` does, in MuJoCo's viewer, with a source and a profile by name.

    Raises:
      ResipError: as ``operate``; an unknown profile, no display, or no terminal for the keyboard.
    """
    check_name("source", source, PROFILES_OF)
    name = profile or PROFILES_OF[source][0]
    check_name(f"profile of the {source}", name, PROFILES_OF[source])
    scene = Replay(tasks.get(task), TILE_WIDTH_PX, TILE_HEIGHT_PX)
    device = _open_keyboard() if source == "keyboard" else SpaceMouse(open_spacemouse, PROFILES[name])
    try:
        with open_viewer(scene, "demonstrate where there is one") as watch:
            operate(task, demos, seed, randomness, out, device, PROFILES[name], watch, images)
    finally:
        scene.close()


def _open_keyboard() -> Keyboard:
    print(HELP)
    return Keyboard(own_terminal())
