"""`resip parity`: does the arm answer in training as it does behind the bridge, and does the ROS loop lose anything?

Two measurements, each with a plot and its figures. Step responses: the training environment's drive beside the
uploaded controller in the simulated robot, over the real wire protocol. Replays: the expert's recorded actions,
open loop, through policy_node, diff_ik_node, bridge and simulated server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces, topics
from resip.control import panda
from resip.control.servo import PoseServo
from resip.graph import GraphArguments
from resip.policy.replay import REPLAY_PREFIX, save_actions
from resip.polymetis.client import ArmClient
from resip.polymetis.session import ArmSession
from resip.polymetis.simulated import SimulatedRobot
from resip.progress import track
from resip.recording.reader import Bag
from resip.trials.records import read_set
from resip.trials.run import run_trials
from resip.trials.statistics import Success

from resip_training.experts.rollout import Trajectory, run_expert
from resip_training.sim.backend import COMMAND_PERIOD_S
from resip_training.sim.cell import Cell
from resip_training.sim.drive import Drive
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.worlds import Worlds

Array = NDArray[np.float64]

_DURATION_S: Final = 1.5
#: A response has settled when it stays within this share of the step.
_SETTLED: Final = 0.05
_STEP_M: Final = 0.03
_STEP_RAD: Final = np.deg2rad(15.0)
STEPS: Final = ("x", "y", "z", "yaw")
_SEED: Final = 0


@dataclass(frozen=True)
class Response:
    """Progress of the fingertip along a step: 0 before it, 1 on the target."""

    time_s: Array
    progress: Array

    @property
    def settling_time_s(self) -> float:
        """Time after which the progress stays within 5 % of the target."""
        outside = np.flatnonzero(np.abs(self.progress - 1.0) > _SETTLED)
        return float(self.time_s[min(outside[-1] + 1, len(self.time_s) - 1)]) if len(outside) else 0.0


def _target(start: spaces.Pose, step: str) -> spaces.Pose:
    if step == "yaw":
        return spaces.Pose(start.position, rotation.matrix_from_rotvec([0.0, 0.0, _STEP_RAD]) @ start.matrix)
    offset = np.zeros(3)
    offset["xyz".index(step)] = _STEP_M
    return spaces.Pose(start.position + offset, start.matrix)


def _progress(start: spaces.Pose, pose: spaces.Pose, step: str) -> float:
    if step == "yaw":
        return float(rotation.rotvec_from_matrix(pose.matrix @ start.matrix.T)[2] / _STEP_RAD)
    return float((pose.position - start.position)["xyz".index(step)] / _STEP_M)


def _response(samples: list[tuple[float, float]]) -> Response:
    time_s, progress = np.array(samples).T
    return Response(time_s, progress)


def training_response(step: str, drive: Drive = "impedance") -> Response:
    """The fingertip's answer in the training environment, every 20 ms."""
    env = AssemblyEnv("one_leg", drive=drive)
    assert isinstance(env.worlds, Worlds)
    env.reset(seed=_SEED)
    start = panda.ee_pose(env.joint_positions()[0])
    target = _target(start, step)
    action = spaces.pack_action(target.position, target.matrix, spaces.GRIPPER_OPEN)[None]
    samples = [(0.0, 0.0)]
    for _ in range(round(_DURATION_S / spaces.CONTROL_PERIOD_S)):
        for _ in env.worlds.command_periods(action):
            pose = panda.ee_pose(env.joint_positions()[0])
            samples.append((len(samples) * COMMAND_PERIOD_S, _progress(start, pose, step)))
    return _response(samples)


@contextmanager
def _armed_robot() -> Iterator[tuple[Cell, SimulatedRobot, ArmSession]]:
    """A simulated robot whose arm runs the uploaded controller; its clock stands between ticks."""
    cell = Cell("one_leg", images=False)
    cell.reset(_SEED)
    robot = SimulatedRobot(cell)
    robot.start()
    session = ArmSession(ArmClient("127.0.0.1", robot.arm_port))
    try:
        with robot.ticking():
            session.poll()
            session.arm()
        yield cell, robot, session
    finally:
        session.close()
        robot.stop()


def robot_response(step: str) -> Response:
    """The answer of the simulated robot to joint commands at 100 Hz, as diff_ik_node and the bridge send them."""
    with _armed_robot() as (cell, robot, session):
        start = panda.ee_pose(cell.joint_positions)
        target = _target(start, step)
        servo = PoseServo()
        begin_s = cell.time_s
        servo.reset(cell.joint_positions, begin_s)
        ticks = round(0.01 / cell.timestep_s)
        samples = [(0.0, 0.0)]
        for k in range(round(_DURATION_S / 0.01)):
            if k == 0:
                servo.set_target(spaces.Pose(target.position[None], target.matrix[None]), begin_s)
            session.poll()
            session.command(servo.sample(cell.time_s)[0])
            session.settle()  # before time goes on
            for _ in range(ticks):
                robot.tick()
            samples.append((cell.time_s - begin_s, _progress(start, panda.ee_pose(cell.joint_positions), step)))
    return _response(samples)


def measure_steps(plot: Path) -> dict[str, Any]:
    """Measure every step response, draw them on one plot, and return the settling times in seconds."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10, 6), sharex=True, sharey=True, layout="constrained")
    figures: dict[str, Any] = {}
    for step, axis in zip(STEPS, axes.flat, strict=True):
        responses = {
            "simulated robot": robot_response(step),
            "training": training_response(step),
            "training, reference drive": training_response(step, "reference"),
        }
        for (name, response), style in zip(responses.items(), ("-", "--", ":"), strict=True):
            axis.plot(response.time_s, response.progress, style, label=f"{name}, {response.settling_time_s:.2f} s")
        size = f"{np.rad2deg(_STEP_RAD):.0f} deg" if step == "yaw" else f"{_STEP_M * 1e3:.0f} mm"
        axis.set_title(f"{step}, {size}")
        axis.legend(title="settles within 5 % after", fontsize="small")
        axis.grid(alpha=0.3)
        figures[step] = {name: response.settling_time_s for name, response in responses.items()}
    figure.supxlabel("time after the target (s)")
    figure.supylabel("share of the step")
    figure.savefig(plot, dpi=110)
    return {"settling_time_s": figures, "settled_within": _SETTLED}


def measure_replays(episodes: int, seed: int, folder: Path, plot: Path) -> dict[str, Any]:
    """Replay the expert's actions through the ROS graph and compare outcomes and fingertip paths.

    Returns:
      The success object, and the distance between the paths in mm.
    """
    runs = sorted(run_expert("one_leg", "low", range(seed, seed + episodes)), key=lambda run: run.seed)
    outcomes, paths = [], []
    for run in track(runs, "replaying"):
        outcome, path = _replay(run, folder / f"seed_{run.seed}")
        outcomes.append(outcome)
        paths.append(path)
    distances = [_path_distance_m(run.robot_state[:, :3], path) for run, path in zip(runs, paths, strict=True)]
    _plot_paths(runs, paths, plot)
    return {
        "expert": Success.of([run.success for run in runs], [run.seed for run in runs]).as_json(),
        "replay": Success.of(outcomes, [run.seed for run in runs]).as_json(),
        "path_distance_mm": {
            "median": float(np.median(np.concatenate(distances)) * 1e3),
            "p95": float(np.percentile(np.concatenate(distances), 95) * 1e3),
            "max": float(np.concatenate(distances).max() * 1e3),
        },
    }


def _replay(run: Trajectory, folder: Path) -> tuple[bool, Array]:
    """Run one recorded episode through the graph: whether it succeeded, and the fingertip's path at 10 Hz."""
    folder.mkdir(parents=True, exist_ok=True)
    recording = folder / "actions.npz"
    save_actions(recording, run.action)
    run_trials(
        GraphArguments(
            policy=f"{REPLAY_PREFIX}{recording}", trials=1, seed=run.seed, record=str(folder / "trial"), headless=True
        )
    )
    outcome = read_set(folder / "trial").outcomes[0]
    return outcome.success, _fingertip_path(folder / "trial" / "trial_000", len(run))


def _fingertip_path(trial: Path, steps: int) -> Array:
    """Fingertip positions ``(n, 3)`` at the ticks of the policy, from the first target on."""
    stamps, positions, ticks = [], [], []
    for record in Bag(trial).records((topics.EE_POSE, topics.TARGET_POSE)):
        if record.topic == topics.TARGET_POSE:
            ticks.append(record.stamp_ns)
        else:
            point = record.decode().pose.position
            stamps.append(record.stamp_ns)
            positions.append((point.x, point.y, point.z))
    at = np.array(ticks[:steps])
    return np.stack([np.interp(at, stamps, column) for column in np.array(positions).T], axis=-1)


def _path_distance_m(training: Array, ros: Array) -> Array:
    """Distance of each point of the ROS path from the training path's polyline."""
    start, end = training[:-1], training[1:]
    along = end - start
    length2 = np.maximum(np.sum(along**2, axis=-1), 1e-12)
    fraction = np.clip(np.einsum("mik,ik->mi", ros[:, None] - start, along) / length2, 0.0, 1.0)
    nearest = start + fraction[..., None] * along
    return np.min(np.linalg.norm(ros[:, None] - nearest, axis=-1), axis=-1)


def _plot_paths(runs: list[Trajectory], paths: list[Array], plot: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for axis, (first, second) in zip(axes, ((0, 1), (0, 2)), strict=True):
        for run, path in zip(runs, paths, strict=True):
            axis.plot(run.robot_state[:, first], run.robot_state[:, second], color="tab:blue", linewidth=0.8)
            axis.plot(path[:, first], path[:, second], color="tab:red", linewidth=0.8, linestyle="--")
        axis.set_xlabel(f"{'xyz'[first]} (m)")
        axis.set_ylabel(f"{'xyz'[second]} (m)")
        axis.set_aspect("equal")
        axis.grid(alpha=0.3)
    axes[0].set_title("from above")
    axes[1].set_title("from the side")
    axes[0].plot([], [], color="tab:blue", label="training environment")
    axes[0].plot([], [], color="tab:red", linestyle="--", label="ROS graph")
    axes[0].legend()
    figure.savefig(plot, dpi=110)


def run_parity(out: Path, episodes: int, seed: int, folder: Path, json_path: Path | None) -> None:
    """Measure both, write the plots into ``out``, print the figures and write them to ``json_path``.

    Raises:
      ResipError: the graph could not run.
    """
    out.mkdir(parents=True, exist_ok=True)
    figures = measure_steps(out / "step_response.png")
    for step, times in figures["settling_time_s"].items():
        print(f"step in {step}: settles after " + ", ".join(f"{s:.2f} s ({name})" for name, s in times.items()))
    if episodes:
        figures |= measure_replays(episodes, seed, folder, out / "replay_paths.png")
        print(f"replays through the ROS graph: {figures['replay']['k']} of {figures['replay']['n']} succeed")
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
