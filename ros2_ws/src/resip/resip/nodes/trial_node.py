"""Runs trials: resets the cell, arms, starts the policy, waits for the verdict, stops, and records it all.

The order of a trial is ``trials.protocol``, that of the set ``trials.evaluation``; here the actions become service
calls and the view of the world comes from topics. The cell judges in simulation (``/cell/status``), the operator on
the robot, with keys, a page in the browser, or services: ``/trial/begin`` when the parts lie ready, then
``/trial/success`` or ``/trial/failure``. Every bag says of itself what it is (see ``_about``).

The node ends with status 0 when every trial was judged, whatever the verdict, and 1 when one was aborted.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from numpy.typing import NDArray
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.task import Future
from std_srvs.srv import Trigger

import resip
from resip import spaces, topics
from resip.control.limits import blames_policy
from resip.errors import ResipError
from resip.nodes import messages, runtime
from resip.nodes.recorder import Recorder
from resip.recording.reader import Bag
from resip.recording.writer import TRIAL_KEY
from resip.trials import measure, operator, records, timeline
from resip.trials.desk import Desk
from resip.trials.evaluation import ORDERS, Slot
from resip.trials.live import Status, StatusLine
from resip.trials.operator import Operator
from resip.trials.protocol import Action, Ending, Phase, Plan, Trial, Verdict, View
from resip.trials.records import Outcome, Settings
from resip.trials.stages import COMPLETE, STAGES
from resip.trials.starts import Starts

if TYPE_CHECKING:
    from resip.trials.evaluation import Order

#: Why a trial ended that the node did not live to see the end of.
INTERRUPTED: Final = "interrupted"

_STEP_PERIOD_S: Final = 0.05
_STATUS_PERIOD_S: Final = 0.5
_RATE_WINDOW_S: Final = 2.0
_CELL_NODE: Final = "/sim_cell"
_POLICY_NODE: Final = "/policy_node"
_PACKAGES: Final = ("numpy", "torch", "mcap")
_WATCHED: Final = (
    topics.SAFETY_STATUS,
    topics.ROBOT_STATUS,
    topics.POLICY_STATUS,
    topics.IK_STATUS,
    topics.CELL_STATUS,
)
_CAMERA_STREAMS: Final = {topics.compressed(camera): f"{camera} camera" for camera in spaces.CAMERAS}
_STREAMS: Final = {
    **_CAMERA_STREAMS,
    topics.JOINT_STATES: "robot state",
    topics.POLICY_STATUS: "policy",
}
_COMMANDS: Final = {topics.TARGET_POSE: "policy's targets", topics.JOINT_COMMAND: "joint commands"}
_REPLAY_SETTLE_S: Final = 2.0
_SERVICES: Final = {
    Action.RESET: topics.CELL_RESET,
    Action.ARM: topics.ARM,
    Action.START: topics.POLICY_START,
    Action.STOP: topics.POLICY_STOP,
    Action.DISARM: topics.DISARM,
}


class TrialNode(runtime.ResipNode):
    """Parameters in ``__init__``.

    Args:
      operator_judges: a person begins and judges trials in simulation too.
    """

    real_time = runtime.RECORDING

    def __init__(self, operator_judges: bool = False) -> None:
        super().__init__("trial_node")
        self._settings = self._declare_settings()
        self._directory = Path(self.parameter("out_dir", "trials", "Directory of the set of trials"))
        self._operator_name = self.parameter("operator", "", "Who lays the parts out, judges, or moves the robot")
        raw_images = self.parameter("record_raw", False, "Record uncompressed images as well")
        self._has_cameras = self.parameter("images", True, "Whether the graph has cameras; else none are waited for")
        ready_s = self.parameter("ready_timeout_s", 60.0, "Longest wait for the graph after a reset (s)", (1.0, 600.0))
        self._repeats = self.parameter("repeats", 0, "Aborted trials that are repeated before the set ends", (0, 1000))
        judge = self.choice("judge", "cell", "Who judges; on the robot the operator", ("cell", "operator"))
        self._plan = Plan(
            time_limit_s=self._settings.time_limit_s,
            resets_cell=self._settings.robot == "sim",
            chooses_policy=len(self._settings.policies) > 1,
            ready_timeout_s=ready_s,
        )
        self._operator_judges = operator_judges or judge == "operator" or not self._plan.resets_cell
        self._streams = (
            _STREAMS if self._has_cameras else {t: n for t, n in _STREAMS.items() if t not in _CAMERA_STREAMS}
        )
        self._set = records.resume(self._directory, self._settings)
        earlier = self.parameter("starts", "", "Folder of an earlier set whose starts are to be laid out again")
        self._starts = Starts(self._directory, Path(earlier) if earlier else None)
        self._recorder = Recorder(self.now_ns, raw_images)
        self._triggers = {action: self.create_client(Trigger, name) for action, name in _SERVICES.items()}
        self._setters = {
            Action.CONFIGURE: self.create_client(SetParameters, f"{_CELL_NODE}/set_parameters"),
            Action.CHOOSE: self.create_client(SetParameters, f"{_POLICY_NODE}/set_parameters"),
        }
        self._statuses: dict[str, DiagnosticArray] = {}
        self._stage: str | None = None
        self._line = StatusLine()
        self._trial: Trial | None = None
        self._next_trial()
        self._desk = self._open_desk()
        self._subscribe()
        self._wall = Clock(clock_type=ClockType.STEADY_TIME)  # a trial must end where ROS time stands still
        self.create_timer(_STEP_PERIOD_S, self._step, clock=self._wall)
        self.create_timer(_STATUS_PERIOD_S, self._show, clock=self._wall)

    def _declare_settings(self) -> Settings:
        return Settings(
            task=self.parameter("task", "one_leg", "Task, for the record and the stages shown"),
            robot=self.choice("robot", "sim", "Where the trials run", ("sim", "polymetis")),
            policy=self.parameter("policy", "models/one_leg", "Policies, see resip.trials.evaluation.parse_policies"),
            randomness=self.parameter("randomness", "low", "How far the cell's starts are spread"),
            n=self.parameter("n", 1, "Trials of each policy", (1, 10_000)),
            seed=self.parameter("seed", 0, "Seed of the first start; each next one has the next", (0, 2**31 - 1)),
            time_limit_s=self.parameter("time_limit_s", 70.0, "Longest trial (s of ROS time)", (1.0, 3600.0)),
            order=cast("Order", self.choice("order", "blind", "Whose turn it is at each start", ORDERS)),
            stop_early=self.parameter("stop_early", False, "Stop as soon as two policies are told apart"),
            random_looks=self.parameter("random_looks", False, "The cell's, for the record"),
            camera_latency_s=self.parameter("camera_latency_s", 0.0, "The cell's, for the record (s)"),
        )

    def _open_desk(self) -> Desk:
        terminal = self.parameter("terminal", "", "Terminal with the operator's keys, such as /dev/pts/3; empty: none")
        port = self.parameter("page_port", -1, "Port of the operator's page; 0: any free one, -1: no page", (-1, 65535))
        desk = Desk(self._settings.task, self._keys(), self._picture, terminal, port)
        for text in desk.invitation:
            self._line.say(text)
        return desk

    def _keys(self) -> dict[str, str]:
        """The key of each of the operator's words, empty where it has none."""
        return operator.keys(self._settings.task)

    def close(self) -> None:
        """End a running trial as interrupted; what was recorded of it stays."""
        self._desk.close()
        if self._trial is not None:
            self._trial.interrupt(INTERRUPTED)
            for action in (Action.STOP, Action.DISARM):  # nobody is left to hear the answers
                self._triggers[action].call_async(Trigger.Request())
            self._finish_trial(self._trial, measured=False)  # there is little time to end in
        self._line.close()
        self._recorder.close()

    # ---- trials ----

    def _next_trial(self) -> None:
        if self._set.finished:
            self.end(0)
            return
        self._slot: Slot = self._set.left[0]
        self._set_aside(records.trial_directory(self._directory, self._slot.index))
        self._ready_from_ns = self._started_ns = 0
        self._operator = Operator(self._settings.task, self._operator_judges)
        self._pictures: dict[str, bytes] = {}  # what the cameras saw when the policy started
        self._finished_s: float | None = None  # ROS time at which a replay was seen to be over
        self._question: Callable[[], bool] | None = None  # the last call
        self._unasked: Callable[[], bool] | None = None  # the same, while its service is not there yet
        self._rate: list[tuple[float, int]] = []
        self._trial = Trial(self._plan, time.monotonic())

    def _set_aside(self, directory: Path) -> None:
        """Keep an aborted trial's files under another name: a recording is never overwritten."""
        if not directory.exists():
            return
        k = 1
        while (aside := directory.with_name(f"{directory.name}_aborted_{k}")).exists():
            k += 1
        shutil.move(directory, aside)

    def _finish_trial(self, trial: Trial, measured: bool = True) -> None:
        self._trial = None
        ending = trial.ending or Ending("aborted", INTERRUPTED)
        lost = sum(self._recorder.stop(self._bag_metadata(ending)).values())
        outcome = Outcome(
            index=self._slot.index,
            seed=self._settings.seed_of(self._slot),
            result=ending.result,
            reason=ending.reason,
            run_s=trial.run_s,
            wall_s=trial.wall_s,
            lost_messages=lost,
            policy=self._slot.policy,
            reached=self._operator.reached,
            judge="operator" if self._operator_judges else "cell",
        )
        if measured and outcome.duration_s > 0:
            outcome = self._measure(outcome)
        if outcome.judged:
            for camera, jpeg in self._pictures.items():
                self._starts.keep(self._slot.start, camera, jpeg)
        records.write_outcome(self._directory, outcome)
        self._set = records.resume(self._directory, self._settings)
        records.write_set(self._set)
        self._line.say(_summary(outcome))
        self._go_on(outcome)

    def _bag_metadata(self, ending: Ending) -> dict[str, str]:
        """What the bag says of itself besides its messages."""
        return {TRIAL_KEY: json.dumps(self._about(ending))}

    def _about(self, ending: Ending) -> dict[str, Any]:
        """Task, policy, operator, outcome, marks (s since the start), the cameras' calibration, and versions."""
        policy, status = self._slot.policy, self._values(topics.POLICY_STATUS)
        model = {key: value for key, value in status.items() if key.startswith("model")}
        return {
            "task": self._settings.task,
            "robot": self._settings.robot,
            "source": "policy",
            "policy": {"name": policy, "policy": self._settings.policies[policy], **model},
            "operator": self._operator_name,
            "randomness": self._settings.randomness,
            "seed": self._settings.seed_of(self._slot),
            "result": ending.result,
            "reason": ending.reason,
            "reached": self._operator.reached,
            "calibration": self._calibration(),
            "versions": _versions(),
        }

    def _calibration(self) -> dict[str, dict[str, Any]]:
        """Of each camera that was heard: size (px), distortion model, k and d."""
        heard = {camera: self._recorder.newest(topics.camera_info(camera)) for camera in spaces.CAMERAS}
        return {
            camera: {
                "width": info.width,
                "height": info.height,
                "distortion_model": info.distortion_model,
                "k": [float(value) for value in info.k],
                "d": [float(value) for value in info.d],
            }
            for camera, info in heard.items()
            if info is not None
        }

    def _go_on(self, outcome: Outcome) -> None:
        """Run the next trial, repeat one that the operator took back, or end: an aborted one takes a repeat, if any."""
        if outcome.judged or outcome.reason in operator.TAKEN_BACK:
            self._next_trial()
        elif self._repeats > 0:
            self._repeats -= 1
            self._next_trial()
        else:
            self.end(1)

    def _measure(self, outcome: Outcome) -> Outcome:
        bag = Bag(records.trial_directory(self._directory, outcome.index) / records.BAG_DIRECTORY)
        figures = measure.measure(self._settings.task, timeline.read(bag, outcome.run_s))
        return replace(
            outcome,
            ticks=figures.ticks,
            missed_ticks=figures.missed_ticks,
            held_ticks=figures.held_ticks,
            tick_rate_hz=figures.tick_rate_hz,
            latency={name: timing.as_json() for name, timing in figures.latency.items()},
            stages=[asdict(stage) for stage in figures.stages],
            reached=_reached(outcome, figures.reached, self._operator.marks),
            model=figures.model,
        )

    # ---- the present trial ----

    def _step(self) -> None:
        trial = self._trial
        if trial is None:
            return
        self._desk.hear(self._listen)
        if self._unasked is not None and self._unasked():
            self._unasked = None
        action = trial.observe(self._view())
        if action is not None:
            self._carry_out(trial, action)
        if trial.done:
            self._finish_trial(trial)

    def _carry_out(self, trial: Trial, action: Action) -> None:
        if action is Action.RECORD:
            self._recorder.start(records.trial_directory(self._directory, self._slot.index) / records.BAG_DIRECTORY)
            trial.reply(True, "", self._view())
        elif action in self._setters:
            request = self._cell_parameters() if action is Action.CONFIGURE else self._policy_parameters()
            self._call(trial, action, self._setters[action], request, _refusal_of_parameters)
        else:
            self._call(trial, action, self._triggers[action], Trigger.Request(), _refusal_of_trigger)

    def _call(
        self, trial: Trial, action: Action, client: Client, request: Any, refusal: Callable[[Any], str | None]
    ) -> None:
        """Ask a service without waiting; the trial gets the reply when it comes, unless it gave up on it.

        Of a question that was asked again only the last answer counts: after it nothing of that kind is under way.
        """

        def on_reply(future: Future) -> None:
            """Hand a service's answer to the trial."""
            refused = refusal(future.result())
            if trial.pending is not action or self._question is not ask:
                return
            if action is Action.RESET:
                self._ready_from_ns = self.now_ns()
            elif action is Action.START:
                self._started_ns = self.now_ns()
                live = {camera: self._picture("live", camera) for camera in spaces.CAMERAS}
                self._pictures = {camera: jpeg for camera, jpeg in live.items() if jpeg is not None}
            trial.reply(refused is None, refused or "", self._view())

        def ask() -> bool:
            """Send the request if the service is there; say whether it was sent."""
            if not client.service_is_ready():
                return False
            client.call_async(request).add_done_callback(on_reply)
            return True

        self._question = ask
        self._unasked = None if ask() else ask

    def _cell_parameters(self) -> SetParameters.Request:
        seed, level = self._settings.seed_of(self._slot), self._settings.randomness
        named = [
            ParameterMsg(name="seed", value=_integer(seed)),
            ParameterMsg(
                name="randomness", value=ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=level)
            ),
        ]
        return SetParameters.Request(parameters=named)

    def _policy_parameters(self) -> SetParameters.Request:
        chosen = list(self._settings.policies).index(self._slot.policy)
        return SetParameters.Request(parameters=[ParameterMsg(name="chosen", value=_integer(chosen))])

    # ---- what the operator says ----

    def _listen(self, word: str) -> str:
        """Take in a word from the desk or a service, and say what came of it.

        Raises:
          ResipError: it does not fit the moment.
        """
        try:
            answer = self._take_in(word)
        except ResipError as error:
            self._line.say(str(error))
            raise
        self._line.say(answer)
        self._show()
        return answer

    def _take_in(self, word: str) -> str:
        trial = self._trial
        if trial is None:
            raise operator.OperatorError("no trial is running")
        time_s = (self.now_ns() - self._started_ns) / messages.NS_PER_S if trial.phase is Phase.RUN else 0.0
        answer = self._operator.say(word, trial.phase, time_s)
        if word == operator.BEGIN:
            self._ready_from_ns = self.now_ns()
        elif word == operator.ABORT:
            trial.interrupt(operator.ABORTED)
        else:
            values = {"trial": self._slot.index, "word": word}
            self.publish_status(topics.TRIAL_STATUS, runtime.OK, answer, values)
        return answer

    def _on_word(self, word: str) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def on_request(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            """Take in an operator's word that came as a service call."""
            try:
                response.message = self._listen(word)
                response.success = True
            except ResipError as error:
                response.message = str(error)
            return response

        return on_request

    def _picture(self, kind: str, camera: str) -> bytes | None:
        if kind == "wanted":
            return self._starts.wanted(self._slot.start, camera)
        message = self._recorder.newest(topics.compressed(camera))
        return None if message is None else bytes(message.data)

    # ---- what is seen of the world ----

    def _subscribe(self) -> None:
        for topic in _WATCHED:
            self.create_subscription(DiagnosticArray, topic, self._on_status(topic), runtime.STATUS_QOS)
        self.create_subscription(PoseArray, topics.CELL_PART_POSES, self._on_parts, runtime.SENSOR_QOS)
        if self._operator_judges:
            self.create_service(Trigger, topics.TRIAL_BEGIN, self._on_word(operator.BEGIN))
            self.create_service(Trigger, topics.TRIAL_SUCCESS, self._on_word(COMPLETE))
            self.create_service(Trigger, topics.TRIAL_FAILURE, self._on_word(operator.FAILURE))

    def _on_status(self, topic: str) -> Callable[[DiagnosticArray], None]:
        def on_message(message: DiagnosticArray) -> None:
            """Keep the newest status."""
            self._statuses[topic] = message

        return on_message

    def _on_parts(self, message: PoseArray) -> None:
        stage = STAGES.get(self._settings.task)
        self._stage = stage(_poses(message)) if stage and message.poses else None

    def _view(self) -> View:
        fault = self._fault()
        return View(
            ros_s=self.now_ns() / messages.NS_PER_S,
            steady_s=time.monotonic(),
            missing=self._missing(),
            verdict=self._verdict(fault),
            fault=fault,
        )

    def _verdict(self, fault: str | None) -> Verdict | None:
        """What the judge says; a policy that was stopped for what it did has failed, whoever judges."""
        verdict = self._operator.verdict or (None if self._operator_judges else self._cells_verdict())
        if verdict is None and fault is not None and blames_policy(fault):
            return Verdict(False, fault)
        return verdict

    def _missing(self) -> tuple[str, ...]:
        """What the trial needs and has not seen since the reset."""
        heard = self._recorder.newest_stamp_ns
        missing = [name for topic, name in self._streams.items() if heard(topic) <= self._ready_from_ns]
        # these are silent until the robot is armed, but the recorder must be there when they begin
        missing += [name for topic, name in _COMMANDS.items() if not self._recorder.hears(topic)]
        if not self._operator.begun:
            missing.append(f"the operator to begin ({topics.TRIAL_BEGIN})")
        return tuple(missing)

    def _cells_verdict(self) -> Verdict | None:
        values = self._values(topics.CELL_STATUS)
        if values.get("success") == "true":
            return Verdict(True, "assembled")
        if values.get("failed"):
            return Verdict(False, values["failed"])
        if self._values(topics.POLICY_STATUS).get("phase") == "finished":
            self._finished_s = self._finished_s or self.now_ns() / messages.NS_PER_S
            if self.now_ns() / messages.NS_PER_S - self._finished_s > _REPLAY_SETTLE_S:
                return Verdict(False, "the recorded actions ended without success")
        return None

    def _fault(self) -> str | None:
        for topic in _WATCHED:
            message = self._statuses.get(topic)
            if message is None or messages.stamp_ns(message.header.stamp) <= self._started_ns:
                continue
            for status in message.status:
                if status.level == runtime.ERROR:
                    return f"{status.name}: {status.message}"
        return None

    def _values(self, topic: str) -> dict[str, str]:
        """Values of a status of the present run; none of what was said before it."""
        message = self._statuses.get(topic)
        if message is None or messages.stamp_ns(message.header.stamp) <= self._started_ns:
            return {}
        return messages.diagnostic_values(message)

    # ---- what is shown of it ----

    def _show(self) -> None:
        trial = self._trial
        if trial is None:
            return
        running = trial.phase is Phase.RUN
        phase = self._stage or trial.phase.value if running else trial.phase.value
        missing = self._missing() if trial.phase is Phase.WAIT else ()
        status = Status(
            trial=self._slot.index,
            trials=len(self._settings.slots()),
            seed=self._settings.seed_of(self._slot),
            phase=f"{phase}: {', '.join(missing)}" if missing else phase,
            time_s=trial.run_s[1] - trial.run_s[0] if running else None,
            limit_s=self._settings.time_limit_s,
            tick_hz=self._tick_rate_hz() if running else None,
            latency_ms=_number(self._values(topics.POLICY_STATUS).get("latency_ms")) if running else None,
            rtf=_number(self._values(topics.CELL_STATUS).get("rtf")) if running else None,
        )
        self._line.show(status)
        self._desk.shown = self._shown(status, running)
        values = {"trial": self._slot.index, "phase": phase}
        self.publish_status(topics.TRIAL_STATUS, runtime.OK, str(status), values)

    def _shown(self, status: Status, running: bool) -> dict[str, Any]:
        """What the operator's page shows; of a blind evaluation not the policy."""
        told = len(self._settings.policies) > 1 and not self._settings.blind
        return {
            "trial": status.trial + 1,
            "trials": status.trials,
            "start": self._slot.start + 1,
            "policy": self._slot.policy if told else "",
            "phase": status.phase,
            "running": running,
            "time_s": status.time_s,
            "limit_s": status.limit_s,
            "marks": self._operator.marks,
            "sayable": self._operator.sayable(running),
            "lays_out": not self._operator.begun,
        }

    def _tick_rate_hz(self) -> float | None:
        """Targets a second of ROS time, over the last two seconds."""
        self._rate.append((self.now_ns() / messages.NS_PER_S, self._recorder.count(topics.TARGET_POSE)))
        while len(self._rate) > 2 and self._rate[-1][0] - self._rate[1][0] > _RATE_WINDOW_S:
            self._rate.pop(0)
        (first_s, first), (last_s, last) = self._rate[0], self._rate[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None


def _reached(outcome: Outcome, measured: dict[str, float], marked: dict[str, float]) -> dict[str, float]:
    """How far a trial got: what the operator marked goes before what the part poses say."""
    reached = {**outcome.reached, **measured, **marked}
    return {**reached, COMPLETE: outcome.duration_s} if outcome.success else reached


def _integer(value: int) -> ParameterValue:
    return ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value)


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in _PACKAGES}
    return {"resip": resip.__version__, "python": platform.python_version(), **packages}


def _poses(message: PoseArray) -> NDArray[np.float64]:
    """Poses ``(n, 7)`` of a message: position (m) and xyzw quaternion."""
    pairs = [(pose.position, pose.orientation) for pose in message.poses]
    return np.array([[p.x, p.y, p.z, q.x, q.y, q.z, q.w] for p, q in pairs])


def _refusal_of_trigger(response: Trigger.Response) -> str | None:
    return None if response.success else response.message or "no reason given"


def _refusal_of_parameters(response: SetParameters.Response) -> str | None:
    return next((result.reason for result in response.results if not result.successful), None)


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _summary(outcome: Outcome) -> str:
    """One line about a finished trial."""
    text = f"trial {outcome.index + 1} (seed {outcome.seed}): {outcome.result}, {outcome.reason}"
    if not outcome.ticks:
        return text
    return (
        f"{text}; {outcome.duration_s:.1f} s, {outcome.ticks} ticks, {outcome.missed_ticks} missed, "
        f"{outcome.rtf:.2f}x real time, {outcome.lost_messages} messages lost"
    )


def main() -> None:
    """Run the node."""
    runtime.main(TrialNode)


if __name__ == "__main__":
    main()
