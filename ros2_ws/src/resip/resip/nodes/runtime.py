"""What every node shares: start, orderly end, one-line errors, declared parameters, QoS, diagnostics and ticks.

A node is a script: ``python -m resip.nodes.policy_node --ros-args -p policy:=models/one_leg``. It ends
within a second of SIGINT or SIGTERM with status 0, and with status 1 and one line after an error that a
user can mend (``ResipError``).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import inspect
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final, TypeVar, cast

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.clock import Clock
from rclpy.duration import Duration
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

import resip
from resip import dds, topics
from resip.control.limits import Limits, digest, load_limits
from resip.errors import ResipError
from resip.nodes import messages

#: Real-time priorities: what is between camera and arm goes before the recording, and that before inference.
ORDINARY, INFERENCE, RECORDING, CONTROL = 0, 2, 5, 10

OK: Final = DiagnosticStatus.OK
WARN: Final = DiagnosticStatus.WARN
ERROR: Final = DiagnosticStatus.ERROR

#: Set by ``resip.process`` in its children: they end when it ends, however it ends.
SUPERVISED_ENV: Final = "RESIP_SUPERVISED"

#: Period of the timers behind ``ResipNode.ticks`` in simulation, where they follow the clock's messages.
_SIM_TIMER_PERIOD_S: Final = 0.0025

#: How far a timer may be from the ticks that it serves.
_MOST_PHASE_NS: Final = 1_000_000

COMMAND_LIFESPAN_S: Final = 0.2

#: What a rival is called whose name discovery has not told yet.
UNNAMED: Final = "a node whose name is not known yet"

#: Whoever started the node writes down what it prints: a thread that the arm waits for must not itself wait for a disk.
_NO_LOG_FILES: Final = ("--ros-args", "--disable-external-lib-logs")

_WAIT_S = 0.1  # longest time between two looks at the stop flag; far below the second that a node has to end
_PATIENCE_S = 0.002  # what a callback that awaits something may cost the others
_SWITCH_S = 0.0005  # how long one thread may keep the others of its node waiting; Python's own is ten times that
_PR_SET_PDEATHSIG = 1
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4

Value = TypeVar("Value", bool, int, float, str)
Result = TypeVar("Result")

#: Images and state: the newest sample matters, a lost one is not repeated.
SENSOR_QOS: Final = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT, history=HistoryPolicy.KEEP_LAST)
#: Commands: delivered once, only the newest.
COMMAND_QOS: Final = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST)
#: Status: every change arrives, and a late subscriber gets the last one.
STATUS_QOS: Final = QoSProfile(
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    history=HistoryPolicy.KEEP_LAST,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
#: Streams of the simulated cell: it waits for a busy machine, so nothing of them need ever be lost.
CELL_QOS: Final = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST)


class ParameterError(ResipError):
    """A node's parameter of the wrong type or outside its bounds."""


@dataclass(frozen=True)
class Tick:
    """One tick of a periodic job: its number on the node's clock, its exact time, and the ticks lost before it."""

    index: int
    time_ns: int
    missed: int


class Ticker:
    """Turns timer callbacks, which come when they can, into ticks at exact multiples of a period.

    A tick's time is ``index * period``. A callback that comes late still gets the time of the tick that it
    serves; ticks that no callback served are counted as missed; a second callback within one period is none.
    """

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self._last: int | None = None

    def tick(self, now_ns: int) -> Tick | None:
        """Tick that ``now_ns`` belongs to, or None if it was served already."""
        index = now_ns // self._period_ns
        if self._last is not None and index <= self._last:
            return None
        missed = 0 if self._last is None else index - self._last - 1
        self._last = index
        return Tick(index, index * self._period_ns, missed)

    def wait_ns(self, now_ns: int) -> int:
        """Time to the next tick: at least 1 ns (one that is due already), at most a period (the clock was set back)."""
        due_ns = ((now_ns // self._period_ns if self._last is None else self._last) + 1) * self._period_ns
        return min(max(1, due_ns - now_ns), self._period_ns)


class ResipNode(Node):
    """Base of the nodes: declared parameters, diagnostics, and an end with a reason."""

    #: Real-time priority: the arm holds where such a node is late. None in simulation, which waits.
    real_time = ORDINARY

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.exit_status: int | None = None
        self._status_publishers: dict[str, Publisher] = {}

    def parameter(
        self, name: str, default: Value, description: str, bounds: tuple[float, float] | None = None
    ) -> Value:
        """Declare a read-only parameter and return its value.

        Args:
          name: with the unit, such as ``stale_after_s``.
          default: also gives the type.
          description: one line.
          bounds: lowest and highest value, inclusive.

        Raises:
          ParameterError: the value given is of another type or outside the bounds.
        """
        descriptor = ParameterDescriptor(description=description, read_only=True)
        if bounds is not None and isinstance(default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(bounds[0]), to_value=int(bounds[1]), step=1)]
        elif bounds is not None:
            descriptor.floating_point_range = [FloatingPointRange(from_value=bounds[0], to_value=bounds[1])]
        try:
            return self.declare_parameter(name, default, descriptor).value
        except InvalidParameterValueException as error:
            limits = f" (it lies within {bounds[0]:g} and {bounds[1]:g})" if bounds else ""
            raise ParameterError(f"{self.get_name()}: parameter {name!r} is out of bounds{limits}: {error}") from error
        except InvalidParameterTypeException as error:
            raise ParameterError(f"{self.get_name()}: {error} ({type(default).__name__}, like {default!r})") from error

    def choice(self, name: str, default: str, description: str, valid: Sequence[str]) -> str:
        """Declare a read-only parameter that is one of ``valid``.

        Raises:
          ParameterError: it is none of them; the message lists them.
        """
        value = self.parameter(name, default, f"{description}: {', '.join(valid)}")
        if value not in valid:
            raise ParameterError(f"{self.get_name()}: parameter {name!r} is {value!r}: choose from {', '.join(valid)}")
        return value

    def limits(self) -> Limits:
        """Load the cell's limits from the file that the parameter ``limits_file`` names, and tell others which.

        Raises:
          LimitsError: the file is wrong.
        """
        description = "Limits file of the cell; empty: those of the simulated cell"
        limits = load_limits(self.parameter("limits_file", "", description))
        values = {"version": resip.__version__, "limits": digest(limits)}
        self.publish_status(topics.ABOUT, OK, "started", values)
        return limits

    def now_ns(self) -> int:
        """The node's clock (the cell's time where ``use_sim_time`` is set), in nanoseconds."""
        return self.get_clock().now().nanoseconds

    def command_qos(self) -> QoSProfile:
        """QoS of a publisher of commands: an undelivered one expires, by wall time and so only on a real robot."""
        if self.get_parameter("use_sim_time").value:
            return COMMAND_QOS
        return QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            history=HistoryPolicy.KEEP_LAST,
            lifespan=Duration(seconds=COMMAND_LIFESPAN_S),
        )

    def sensor_qos(self) -> QoSProfile:
        """QoS of a publisher of state: best effort on a real robot, lossless in simulation."""
        return CELL_QOS if self.get_parameter("use_sim_time").value else SENSOR_QOS

    def ticks(self, period_s: float, callback: Callable[[Tick], None], clock: Clock | None = None) -> None:
        """Call back at exact multiples of a period of the node's clock (or another); see ``Ticker``.

        On a machine's clock the timer is set to the time of the next tick where it has another phase: after the start,
        and when the clock was set. (Set anew at every tick, a busy executor's comes many times for one, and messages
        wait.) In simulation the clock message that carries a tick's time serves it.
        """
        period_ns = round(period_s * messages.NS_PER_S)
        ticker = Ticker(period_ns)
        source = clock or self.get_clock()
        follows = source is self.get_clock() and self.get_parameter("use_sim_time").value

        def on_timer() -> None:
            """Serve the tick that the clock has reached, if none did."""
            tick = ticker.tick(source.now().nanoseconds)
            if tick is not None and tick.index > 0:
                callback(tick)
            if not follows and not in_phase():
                timer.timer_period_ns = ticker.wait_ns(source.now().nanoseconds)
                timer.reset()
                timer.timer_period_ns = period_ns

        def in_phase() -> bool:
            """Whether the timer comes at ticks, soon or late."""
            wait_ns = timer.time_until_next_call() or 0
            beyond_ns = (source.now().nanoseconds + wait_ns + _MOST_PHASE_NS) % period_ns
            return beyond_ns <= 2 * _MOST_PHASE_NS and wait_ns <= 2 * period_ns

        # rclpy looks at what a timer's callback takes before every call; found out anew, that costs more than the rest
        on_timer.__signature__ = inspect.signature(on_timer)  # pyright: ignore[reportFunctionMemberAccess]
        timer = self.create_timer(_SIM_TIMER_PERIOD_S if follows else period_s, on_timer, clock=source)

    def publish_status(
        self, topic: str, level: bytes, message: str, values: Mapping[str, object], time_ns: int | None = None
    ) -> None:
        """Publish one diagnostic status of this node on a topic, stamped with a time or its clock's."""
        if topic not in self._status_publishers:
            self._status_publishers[topic] = self.create_publisher(DiagnosticArray, topic, STATUS_QOS)
        stamp_ns = self.now_ns() if time_ns is None else time_ns
        array = messages.diagnostics(stamp_ns, self.get_name(), level, message, values)
        self._status_publishers[topic].publish(array)

    def rivals(self, topic: str, expected: int = 1) -> str | None:
        """Names of the publishers of a topic when there are more than ``expected``, else None."""
        if self.count_publishers(topic) <= expected:
            return None
        infos = self.get_publishers_info_by_topic(topic)
        return " and ".join(sorted(_full_name(i.node_namespace, i.node_name) for i in infos))

    def end(self, status: int) -> None:
        """Let the process end with a status, after the present callback; from any thread."""
        self.exit_status = status

    def fail(self, error: ResipError) -> None:
        """Say why in one line and end with status 1; from any thread."""
        self.get_logger().fatal(str(error))
        self.end(1)

    def start_thread(self, target: Callable[[], None]) -> threading.Thread:
        """Run a function in a thread of its own; an error that leaves it ends the node with status 1."""

        def guarded() -> None:
            """Run the target; end the node when it fails."""
            try:
                target()
            except ResipError as error:
                self.fail(error)
            except BaseException:  # noqa: BLE001 - a defect of ours: show where, and end
                self.get_logger().fatal(traceback.format_exc())
                self.end(1)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Release what the node holds (threads, sockets, files); called once, while ROS still works."""


def keep_objects() -> None:
    """Tell Python's collector that what the node has by now stays; called again by who loads more in a thread.

    Otherwise it goes through all of it again and again, and each time the node stands still: for 0.1 s and more where
    torch is loaded.
    """
    gc.collect()
    gc.freeze()


def give_way() -> None:
    """Let the calling thread of a node in real time go after the others: for inference, which takes longest."""
    if os.sched_getscheduler(0) == os.SCHED_RR:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(INFERENCE))


def _be_real_time(priority: int) -> None:
    """Let every thread of this process run before those of a lower priority, if it has the right to."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # without the right; a thread that has just ended
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(priority))


def _keep_memory() -> None:
    """Keep in memory what this process has touched, if it may: a page that was taken away comes back from the disk.

    Not where there is a limit to it, which the process would come up against later.
    """
    if os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        ctypes.CDLL(None).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)


async def patiently(future: Future[Result]) -> Result | None:
    """Await a future in a callback at little cost, and give its result.

    Awaited as it is, it would keep a core busy: an executor asks what awaits a future again and again.
    """
    while not future.done():
        time.sleep(_PATIENCE_S)
        await _Turn()
    return future.result()


class _Turn:
    """Awaited, it lets the executor see to everything else once."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def main(node_class: Callable[[], ResipNode]) -> None:
    """Run a node until it ends itself, SIGINT or SIGTERM; then exit with its status."""
    if os.environ.get(SUPERVISED_ENV):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    sys.exit(run(node_class))


def run(node_class: Callable[[], ResipNode], args: list[str] | None = None) -> int:
    """Run a node in the calling thread, which must be the main one, and return its exit status."""
    stop = _StopFlag()
    os.environ.update(dds.defaults())
    try:
        node = _create(node_class, args)
    except ResipError as error:
        get_logger(_name_of(node_class)).fatal(str(error))
        rclpy.try_shutdown()
        return 1
    try:
        _spin(node, stop)
    except ResipError as error:
        node.fail(error)
    except OSError as error:  # such as a full disk
        node.fail(ResipError(str(error)))
    finally:
        node.close()
        node.destroy_node()
        rclpy.try_shutdown()
    return node.exit_status or 0


def _create(node_class: Callable[[], ResipNode], args: list[str] | None) -> ResipNode:
    try:
        words = [*(sys.argv if args is None else args), *_NO_LOG_FILES]
        rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)
        return node_class()
    except RuntimeError as error:  # rclpy's, for a participant that cannot be made
        if not dds.is_secured():
            raise
        why = " ".join(str(error).split())
        raise ResipError(
            f"DDS is to be secured (ROS_SECURITY_ENABLE) and cannot be, see docs/security.md: {why}"
        ) from error


class _StopFlag:
    """True once SIGINT or SIGTERM came. The handlers only set it, so that no callback is cut in half."""

    def __init__(self) -> None:
        self.is_set = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True


def _new_executor() -> Executor:
    """The executor of least cost: at 100 Hz the events executor (Kilted and later) takes half of the other's CPU."""
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return cast("Executor", EventsExecutor())


def _spin(node: ResipNode, stop: _StopFlag) -> None:
    keep_objects()
    sys.setswitchinterval(_SWITCH_S)
    if node.real_time and not node.get_parameter("use_sim_time").value:
        _be_real_time(node.real_time)
        _keep_memory()
    executor = _new_executor()
    executor.add_node(node)
    while node.exit_status is None and not stop.is_set:
        executor.spin_once(timeout_sec=_WAIT_S)
    executor.remove_node(node)


def _name_of(node_class: Callable[[], ResipNode]) -> str:
    return node_class.__module__.rpartition(".")[2]


def _full_name(namespace: str, name: str) -> str:
    """Of a node; discovery tells of a publisher before it tells whose it is."""
    return UNNAMED if "UNKNOWN" in name else f"{namespace.rstrip('/')}/{name}"
