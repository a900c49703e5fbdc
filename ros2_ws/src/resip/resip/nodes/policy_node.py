"""The policy on the robot's clock: a tick every 0.1 s, at exact multiples of it, that never waits.

Inference runs in a worker thread on the newest observation whose images and state belong together; the next
chunk is asked for while the present one still has actions. Actions are executed by their time stamp, so one
that comes late is skipped; the command goes over to a new chunk within ``blend_steps`` ticks, and before the
next is due. Every chunk is published as a plan, stamped with its observation's time. Nothing to execute is a
hold: the node publishes no target, and those downstream hold. An unsound action (see ``limits.check_action``)
or an unsound input stops the policy until ``/policy/start`` is called again.

Phases: ``idle``, ``waiting`` (for the first chunk), ``running``, ``holding`` (until a new chunk comes),
``stopped`` (with a reason), ``finished`` (a replay at its end). In every phase the status says in ``missing`` which
of the policy's own inputs it has not got.

Several policies can take turns: all are loaded at once, and parameter ``chosen`` says which one the next start runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from geometry_msgs.msg import PoseArray, PoseStamped
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterDescriptor
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from resip import spaces, topics
from resip.control import panda
from resip.control.limits import UnsoundActionError, check_action
from resip.errors import ResipError
from resip.nodes import messages, runtime
from resip.policy.chunks import Chunk, ChunkExecutor
from resip.policy.frozen import FrozenCheck
from resip.policy.replay import REPLAY_PREFIX, load_actions
from resip.policy.synchroniser import MAX_AGE_S, MAX_SKEW_S, STATE, Moment, Synchroniser

if TYPE_CHECKING:
    from resip.policy.artefact import Policy

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Inference:
    """A chunk from the worker, and what it took."""

    chunk: Chunk
    preprocess_ms: float
    inference_ms: float


@dataclass(frozen=True)
class _Loaded:
    """What can run: a policy, or recorded actions ``(n, 10)``."""

    policy: Policy | None
    recorded: Array | None
    horizon: int
    described: dict[str, str]


class PolicyNode(runtime.ResipNode):
    """Parameters in ``__init__``; topics and services in ``resip.topics``."""

    real_time = runtime.CONTROL

    def __init__(self) -> None:
        super().__init__("policy_node")
        names = self.parameter("policy", "models/one_leg", "Folders of exported policies, or replay:PATH.npz")
        self.declare_parameter("chosen", 0, ParameterDescriptor(description="Number of the policy that starts next"))
        self._seed = self.parameter("seed", 0, "Seed of the policy's noise", (0, 2**31 - 1))
        threads = self.parameter("threads", 1, "Threads that inference may use", (1, 64))
        device = self.parameter("device", "cpu", "Where inference runs: cpu or cuda")
        blend_steps = self.parameter("blend_steps", 3, "Ticks over which a new chunk takes over; 0: at once", (0, 8))
        skew_s = self.parameter("max_skew_s", MAX_SKEW_S, "Largest skew within an observation (s)", (0.0, 0.5))
        age_s = self.parameter("max_observation_age_s", MAX_AGE_S, "Oldest observation used (s)", (0.05, 2.0))
        self._loaded = [_load(name, self._seed, threads, device) for name in names.split(",")]
        self._watches = any(one.policy for one in self._loaded)
        self._inputs = Synchroniser((*spaces.CAMERAS, STATE) if self._watches else (STATE,), skew_s, age_s)
        self._frozen = {camera: FrozenCheck(camera) for camera in spaces.CAMERAS}
        self._joints: JointState | None = None
        self._blend_steps = blend_steps
        self._choose(0)
        self._worker = ThreadPoolExecutor(1, initializer=runtime.give_way)
        self._limits = self.limits()
        self._begin()
        self._idle()
        self._connect()

    def _choose(self, number: int) -> None:
        """Let a loaded policy be the one that runs."""
        chosen = self._loaded[number]
        self._policy, self._recorded, self._model = chosen.policy, chosen.recorded, chosen.described
        self._chunks = ChunkExecutor(chosen.horizon, self._blend_steps)

    def _idle(self, phase: str = "idle", reason: str = "") -> None:
        """Execute nothing, for a reason that a person can read."""
        self._phase, self._reason = phase, reason
        self._chunks.reset()
        self._previous: spaces.Pose | None = None
        self._inference: _Inference | None = None  # that ended in this tick

    def _begin(self) -> None:
        """Count from nothing, and wait for the first chunk."""
        self._idle("waiting")
        self._ticks = self._missed = self._n_chunks = 0
        self._pending: Future[_Inference] | None = None  # what is still computed belongs to the last run

    def _connect(self) -> None:
        self._target_pose = self.create_publisher(PoseStamped, topics.TARGET_POSE, self.command_qos())
        self._target_gripper = self.create_publisher(JointState, topics.TARGET_GRIPPER, self.command_qos())
        self._plan = self.create_publisher(PoseArray, topics.POLICY_PLAN, runtime.STATUS_QOS)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, runtime.SENSOR_QOS)
        if self._watches:
            for camera in spaces.CAMERAS:
                self.create_subscription(Image, topics.image(camera), self._on_image(camera), runtime.SENSOR_QOS)
        self.create_service(Trigger, topics.POLICY_START, self._on_start)
        self.create_service(Trigger, topics.POLICY_STOP, self._on_stop)
        self.ticks(spaces.CONTROL_PERIOD_S, self._on_tick)

    def _on_joints(self, message: JointState) -> None:
        self._joints = message
        self._inputs.add(STATE, messages.stamp_ns(message.header.stamp) * 1e-9, message)

    def _on_image(self, camera: str) -> Callable[[Image], None]:
        def on_message(message: Image) -> None:
            """Keep the picture, unless it shows that the camera is frozen."""
            self._inputs.add(camera, messages.stamp_ns(message.header.stamp) * 1e-9, message)
            if self._joints is None:
                return
            position_m = panda.ee_pose(self._joints.position[: panda.DOF]).position
            problem = self._frozen[camera].see(message.data, position_m)
            if problem and self._phase in ("running", "holding"):
                self._halt(problem)

        return on_message

    def close(self) -> None:
        """Let the worker end; a running inference is not waited for."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        number = self.get_parameter("chosen").value
        if not 0 <= number < len(self._loaded):
            response.message = f"there is no policy {number}: choose from 0 to {len(self._loaded) - 1}"
            return response
        self._choose(number)
        self._begin()
        if self._policy is not None:
            self._worker.submit(self._policy.reset, self._seed)
        response.success, response.message = True, f"{self._model['model']} started"
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._idle()
        response.success, response.message = True, "stopped"
        return response

    # ---- the tick ----

    def _on_tick(self, tick: runtime.Tick) -> None:
        started_s = time.perf_counter()
        if self._phase in ("waiting", "running", "holding"):
            self._missed += tick.missed if self._ticks else 0
            self._ticks += 1
            try:
                self._advance(tick)
            except ResipError as error:
                self._halt(str(error))
        self._publish_status(tick.time_ns, (time.perf_counter() - started_s) * 1e3)

    def _advance(self, tick: runtime.Tick) -> None:
        """Take a finished chunk, ask for the next, and execute the action of this tick."""
        now_s = tick.time_ns * 1e-9
        self._collect()
        problem = self._request(now_s)
        action = self._chunks.action_at(now_s)
        if action is not None and not problem:
            self._execute(action, tick)
        elif self._recorded is not None and self._n_chunks:
            self._idle("finished", "the recording is at its end")
            self.get_logger().info(self._reason)
        elif self._phase != "waiting" or problem:
            self._hold(problem or "the chunk is used up and the next one is not ready")

    def _collect(self) -> None:
        self._inference = None
        if self._pending is None or not self._pending.done():
            return
        pending, self._pending = self._pending, None
        self._inference = pending.result()
        self._take(self._inference.chunk)

    def _take(self, chunk: Chunk) -> None:
        self._n_chunks += 1
        self._chunks.add(chunk)
        self._plan.publish(messages.pose_array(chunk.actions, round(chunk.observed_s * messages.NS_PER_S)))

    def _request(self, now_s: float) -> str:
        """Have the next chunk computed if it is due; or say why that cannot be."""
        if self._pending is not None or not self._chunks.wants_chunk(now_s):
            return ""
        moment = self._inputs.newest(now_s)
        if isinstance(moment, str):
            return moment
        if self._recorded is None:
            self._pending = self._worker.submit(self._infer, moment)
        elif not self._n_chunks:
            self._take(Chunk(now_s, self._recorded))
        return ""

    def _execute(self, action: Array, tick: runtime.Tick) -> None:
        problem = check_action(action, self._previous or self._measured_pose(tick.time_ns * 1e-9), self._limits)
        if problem:
            raise UnsoundActionError(problem)
        self._phase, self._reason = "running", ""
        self._previous = spaces.action_pose(action)
        gripper = float(spaces.gripper_command(action))
        self._target_pose.publish(messages.pose_stamped(self._previous, tick.time_ns))
        self._target_gripper.publish(messages.joint_state(["gripper"], [gripper], tick.time_ns))

    def _measured_pose(self, now_s: float) -> spaces.Pose:
        moment = self._inputs.newest(now_s)
        if isinstance(moment, str):
            raise ResipError(moment)
        return panda.ee_pose(moment.samples[STATE].position[: panda.DOF])

    def _missing_input(self, now_s: float) -> str:
        moment = self._inputs.newest(now_s)
        return moment if isinstance(moment, str) else ""

    def _hold(self, reason: str) -> None:
        if self._phase != "holding":
            self.get_logger().warning(f"holding: {reason}")
        self._phase, self._reason = "holding", reason
        self._previous = None

    def _halt(self, reason: str) -> None:
        self.get_logger().error(f"stopped, the arm holds: {reason}")
        self._idle("stopped", reason)
        self._publish_status(self.now_ns())

    def _publish_status(self, time_ns: int, latency_ms: float = 0.0) -> None:
        now_s = time_ns * 1e-9
        age_s = self._inputs.age_s(now_s)
        executed_s = self._chunks.observed_at(now_s) if self._phase == "running" else None
        values = {
            "phase": self._phase,
            "ticks": self._ticks,
            "missed_ticks": self._missed,
            "chunk": self._n_chunks,
            "latency_ms": latency_ms,
            "observation_age_ms": "" if age_s is None else age_s * 1e3,
            "execution_age_ms": "" if executed_s is None else (now_s - executed_s) * 1e3,
            "preprocess_ms": "" if self._inference is None else self._inference.preprocess_ms,
            "inference_ms": "" if self._inference is None else self._inference.inference_ms,
            "reason": self._reason,
            "missing": self._missing_input(now_s),
            **self._model,
        }
        level = {"stopped": runtime.ERROR, "holding": runtime.WARN}.get(self._phase, runtime.OK)
        self.publish_status(topics.POLICY_STATUS, level, self._reason or self._phase, values, time_ns)

    # ---- below: the worker's thread ----

    def _infer(self, moment: Moment) -> _Inference:
        assert self._policy is not None
        started_s = time.perf_counter()
        joints = moment.samples[STATE]
        state = panda.measured_state(joints.position, joints.velocity)
        images = [messages.image_pixels(moment.samples[name], topics.image(name)) for name in spaces.CAMERAS]
        prepared_s = time.perf_counter()
        try:
            actions = self._policy.chunk(state, *images)
        except RuntimeError as error:  # torch's only kind
            raise ResipError(f"inference failed: {str(error).strip().splitlines()[-1]}") from error
        predicted_s = time.perf_counter()
        return _Inference(
            Chunk(moment.time_s, actions), (prepared_s - started_s) * 1e3, (predicted_s - prepared_s) * 1e3
        )


def _load(name: str, seed: int, threads: int, device: str) -> _Loaded:
    if name.startswith(REPLAY_PREFIX):
        recorded = load_actions(name.removeprefix(REPLAY_PREFIX))
        return _Loaded(None, recorded, len(recorded), {"model": name})
    from resip.policy.artefact import load_policy  # needs torch

    policy = load_policy(Path(name), seed=seed, threads=threads, device=device)
    policy.warm_up()
    described = {"model": name, "model_sha256": policy.manifest["sha256"]["policy.pt"]}
    return _Loaded(policy, None, policy.action_horizon, described)


def main() -> None:
    """Run the node."""
    runtime.main(PolicyNode)


if __name__ == "__main__":
    main()
