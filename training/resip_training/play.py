"""`resip play`: one episode of an agent, as a video and in MuJoCo's viewer."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from resip import spaces
from resip.errors import ResipError, check_name
from resip.progress import bars
from resip.trials import video

from resip_training.agents import AGENTS, Agent
from resip_training.render.intent import Intent, Picture, draw, with_legend
from resip_training.render.replay import Replay
from resip_training.sim import visuals
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.task import Task

#: Of each camera's picture in the video; they stand side by side.
TILE_WIDTH_PX: Final = 480
TILE_HEIGHT_PX: Final = 360
_MAX_VIDEO_BYTES: Final = 20_000_000
_ACTED_IN: Final = np.array([0])

#: Shows the present state of an environment to a person; False when they have seen enough.
Watch = Callable[[AssemblyEnv], bool]


def play(
    task: str,
    agent: str,
    seed: int = 0,
    randomness: str = "low",
    cameras: Sequence[str] = tuple(visuals.CAMERAS),
    out: Path | None = None,
    visual_seed: int | None = None,
    viewer: bool = False,
    show_residual: bool = False,
    still: int | None = None,
) -> int:
    """Run one episode, write its video to ``out`` and print how it ended.

    Args:
      task: its name.
      agent: ``expert``, ``random``, ``zero``, or the folder of a training run or of an exported model.
      seed: of the episode, and of the agent.
      randomness: level of the start.
      cameras: in the video, side by side.
      out: file of the video; None writes none.
      visual_seed: draw lights, colours, textures and cameras from this and the seed; None leaves them as they are.
      viewer: watch it in MuJoCo's viewer, in real time.
      show_residual: draw what the base wants and what the residual makes of it, of a policy on states.
      still: write the video's picture after so many control steps as well, as a PNG of the same name.

    Returns:
      The number of control steps.

    Raises:
      ResipError: unknown task, agent, randomness or camera, a checkpoint of another task, an agent without a base
        to show, an episode that ends before the still, no GL, or no display.
    """
    _check(cameras, out, show_residual or still is not None)
    env = AssemblyEnv(task, 1, randomness, threads=1)
    act = make_agent(agent, env.task, seed)
    intent = _intent_of(act, agent) if show_residual else None
    replay = Replay(env.task, TILE_WIDTH_PX, TILE_HEIGHT_PX)
    if visual_seed is not None:
        replay.show(replay.appearances.draw(visual_seed, seed))
    with (
        open_viewer(replay, "without --viewer a video is written") if viewer else nullcontext(_nobody_watches) as watch
    ):
        episode = _Episode(env, act, seed, watch)
        if out is None:
            for _ in episode.states():
                pass
        else:
            frames = _frames(episode, replay, env, cameras, intent)
            _write(out, _keeping(frames, still, out.with_suffix(".png")), env.task)
    replay.close()
    env.close()
    print(f"{task}, {agent}, seed {seed}: {episode.outcome} after {episode.steps} steps{f', {out}' if out else ''}")
    if still is not None and still > episode.steps:
        raise ResipError(f"no still of step {still}: the episode ended after {episode.steps}")
    return episode.steps


def _check(cameras: Sequence[str], out: Path | None, draws: bool) -> None:
    if not cameras:
        raise ResipError(f"no camera to show: choose from {', '.join(visuals.CAMERAS)}")
    for camera in cameras:
        check_name("camera", camera, visuals.CAMERAS)
    if draws and out is None:
        raise ResipError("the residual and stills are drawn in a video: say where with --out")


def make_agent(name: str, task: Task, seed: int) -> Agent:
    """The agent of that name, or the policy in that folder.

    Raises:
      ResipError: there is neither, or the policy is of another task.
    """
    if name in AGENTS:
        return AGENTS[name](task, seed)
    if not Path(name).is_dir():
        raise ResipError(f"agent {name!r} is no folder of a run or model: choose one, or from {', '.join(AGENTS)}")
    # torch: only for policies
    from resip_training import checkpoints, evaluate
    from resip_training.rollout.played import TeacherAgent

    if checkpoints.is_state_run(Path(name)):
        teacher = checkpoints.load_teacher(Path(name))
        _check_task(name, teacher.task, task)
        return TeacherAgent(teacher, seed)
    policy = evaluate.load(Path(name))
    _check_task(name, policy.task, task)
    return evaluate.PolicyAgent(policy.predict, task, policy.horizons, [seed])


def _check_task(name: str, trained_on: str, task: Task) -> None:
    if trained_on != task.name:
        raise ResipError(f"{name} is a policy of {trained_on}, not of {task.name}")


def _intent_of(act: Agent, name: str) -> Callable[[], Intent | None]:
    """What tells the intent of an agent that has a base."""
    from resip_training.rollout.played import TeacherAgent  # torch: only for policies

    if not isinstance(act, TeacherAgent):
        raise ResipError(f"agent {name!r} has no base to show: --show-residual takes a run of a policy on states")
    return lambda: act.intent


class _Episode:
    """One episode of one environment, and how it ended."""

    def __init__(self, env: AssemblyEnv, act: Agent, seed: int, watch: Watch) -> None:
        self._env, self._act, self._seed, self._watch = env, act, seed, watch
        self.steps = 0
        self.over = False
        self.outcome = "stopped"

    def states(self) -> Iterator[int]:
        """Run it; the number of steps taken at each state, the first and the last included.

        At each but the last, the agent has just decided what to do there.
        """
        env = self._env
        observation, _ = env.reset(seed=self._seed)
        with bars("steps", transient=True) as progress:
            bar = progress.add_task(f"play {env.task.name}", total=env.task.max_steps)
            go_on = self._watch(env)
            while go_on:
                actions = self._act(env, observation, _ACTED_IN)
                yield self.steps
                observation, _, terminated, truncated, info = env.step(actions)
                self.steps += 1
                go_on = self._watch(env)
                if terminated[0] or truncated[0]:
                    self.outcome, go_on = _outcome(info), False
                progress.advance(bar)
        self.over = True
        yield self.steps


def _nobody_watches(env: AssemblyEnv) -> bool:
    return True


def _outcome(info: dict[str, NDArray[np.bool_]]) -> str:
    if info["success"][0]:
        return "success"
    if info["fallen"][0]:
        return "a part left the table"
    return "the physics diverged" if info["diverged"][0] else "out of time"


def _pose(env: AssemblyEnv) -> tuple[NDArray[Any], float, NDArray[Any]]:
    """What ``Replay`` shows of the environment: joints, gripper width, part poses."""
    width_m = env.robot_state()[0, spaces.STATE_GRIPPER_WIDTH.start]
    return env.joint_positions()[0], width_m, env.part_poses()[0].ravel()


def _frames(
    episode: _Episode,
    replay: Replay,
    env: AssemblyEnv,
    cameras: Sequence[str],
    intent_of: Callable[[], Intent | None] | None,
) -> Iterator[Picture]:
    """The cameras' pictures side by side at each state, with what is wanted there if that can be told."""
    for _ in episode.states():
        intent = intent_of() if intent_of and not episode.over else None
        views = []
        for camera in cameras:
            picture = replay.render_one(camera, *_pose(env))
            views.append(draw(picture, intent, replay.view(camera)) if intent else picture)
        tiles = np.concatenate(views, axis=1)
        yield with_legend(tiles, intent) if intent_of else tiles


def _keeping(frames: Iterator[Picture], still: int | None, path: Path) -> Iterator[Picture]:
    """The same frames, of which one is written to ``path``."""
    for step, frame in enumerate(frames):
        if step == still:
            Image.fromarray(frame).save(path)
        yield frame


def _write(out: Path, frames: Iterator[Picture], task: Task) -> None:
    if not out.resolve().parent.is_dir():
        raise ResipError(f"{out.parent} is no folder: make it, or choose another file")
    timed = ((step * spaces.CONTROL_PERIOD_S, frame) for step, frame in enumerate(frames))
    data = video.encode_mp4(timed, task.max_steps * spaces.CONTROL_PERIOD_S, _MAX_VIDEO_BYTES)
    assert data is not None, "an episode has a first state"
    out.write_bytes(data)


@contextmanager
def open_viewer(replay: Replay, remedy: str) -> Iterator[Watch]:
    """MuJoCo's viewer of the replayed scene, which shows each state for a control period.

    Raises:
      ResipError: there is no display; ``remedy`` ends the message.
    """
    import glfw
    from mujoco import viewer

    with warnings.catch_warnings(action="ignore"):  # the error says it
        if not glfw.init():  # asked first: the viewer ends the process
            raise ResipError(f"MuJoCo's viewer needs a display and finds none: {remedy}")
    with viewer.launch_passive(replay.model, replay.data) as handle:
        shown_s = time.monotonic()

        def watch(env: AssemblyEnv) -> bool:
            """Show the present state at the pace of real time; whether the window is still open."""
            nonlocal shown_s
            with handle.lock():
                replay.pose(*_pose(env))
            handle.sync()
            time.sleep(max(0.0, shown_s + spaces.CONTROL_PERIOD_S - time.monotonic()))
            shown_s = time.monotonic()
            return handle.is_running()

        yield watch
