"""What every node does: exact ticks, bounded parameters, an orderly end."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from rclpy.task import Future
from resip.nodes import runtime
from resip.nodes.runtime import Tick, Ticker

MS = 1_000_000

NODE = """
from resip.errors import ResipError
from resip.nodes import runtime

class Example(runtime.ResipNode):
    def __init__(self):
        super().__init__("example")
        self.gain = self.parameter("gain", 1.0, "A gain", (0.0, 2.0))
        self.count = self.parameter("count", 1, "A count", (1, 3))
        self.choice("mode", "a", "A mode", ("a", "b"))
        {body}

    def close(self):
        print("closed", flush=True)

runtime.main(Example)
"""


@pytest.fixture
def start(tmp_path):
    """Start the example node with a body and ROS arguments; it is gone after the test."""
    running = []

    def start_node(body="print('ready', flush=True)", *ros_args):
        script = tmp_path / "example.py"
        script.write_text(NODE.format(body=textwrap.indent(body, " " * 8).strip()))
        command = [sys.executable, str(script), "--ros-args", *(part for arg in ros_args for part in ("-p", arg))]
        logs = {"ROS_LOG_DIR": str(tmp_path / "logs")}
        environment = {**os.environ, **logs, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        running.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        )
        return running[-1]

    yield start_node
    for process in running:
        process.kill()
        process.communicate()


def test_what_a_node_says_is_printed_and_writes_no_file_that_it_could_wait_for(start, tmp_path):
    node = start("self.get_logger().error('look here'); self.end(0)")
    output = "".join(node.communicate(timeout=60))
    assert node.returncode == 0
    assert "look here" in output
    assert not list((tmp_path / "logs").glob("*")), "rcl writes a log file of its own unless told otherwise"


def test_a_callback_that_awaits_lets_the_others_have_their_turn():
    future = Future()
    awaiting = runtime.patiently(future)
    for _ in range(3):
        awaiting.send(None)
    future.set_result("answer")
    with pytest.raises(StopIteration) as end:
        awaiting.send(None)
    assert end.value.value == "answer"


def may_be_real_time():
    """Whether this machine lets its processes be scheduled in real time."""
    return succeeds("import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))")


def may_keep_memory():
    """Whether this machine lets its processes keep all of their memory, without a limit."""
    unlimited = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    return unlimited and succeeds("import ctypes, sys; sys.exit(ctypes.CDLL(None).mlockall(7))")


def succeeds(code):
    """Whether a Python of its own runs this without an error."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(("simulated", "real_time"), [("false", True), ("true", False)])
def test_a_node_that_asks_for_it_is_in_real_time_and_keeps_its_memory_where_time_is_real(start, simulated, real_time):
    body = """
        self.real_time = runtime.CONTROL
        import os
        from concurrent.futures import ThreadPoolExecutor
        def tell():
            policies = {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
            worker = ThreadPoolExecutor(1, initializer=runtime.give_way)
            priority = worker.submit(lambda: os.sched_getparam(0).sched_priority).result()
            lines = dict(line.split(":") for line in open("/proc/self/status"))
            kept = int(lines["VmLck"].split()[0]) > 0
            print(policies == {os.SCHED_RR}, os.SCHED_RR in policies, priority, kept, flush=True)
            self.end(0)
        from rclpy.clock import Clock
        from rclpy.clock_type import ClockType
        self.create_timer(0.01, tell, clock=Clock(clock_type=ClockType.STEADY_TIME))
    """
    node = start(textwrap.dedent(body), f"use_sim_time:={simulated}")
    said = node.stdout.readline().split()
    expected = real_time and may_be_real_time()
    kept = real_time and may_keep_memory()
    assert said == [str(expected), str(expected), str(runtime.INFERENCE if expected else 0), str(kept)]


def test_a_tick_has_the_exact_time_that_it_serves():
    ticker = Ticker(100 * MS)
    assert ticker.tick(203 * MS) == Tick(2, 200 * MS, 0)


def test_a_tick_is_served_once():
    ticker = Ticker(100 * MS)
    assert [ticker.tick(now * MS) is not None for now in (200, 250, 299, 300)] == [True, False, False, True]


def test_it_is_waited_for_the_next_tick_and_never_longer_than_a_period():
    ticker = Ticker(100 * MS)
    ticker.tick(203 * MS)
    assert ticker.wait_ns(205 * MS) == 95 * MS
    assert ticker.wait_ns(320 * MS) == 1  # due while the last one was served
    assert ticker.wait_ns(20 * MS) == 100 * MS  # the clock was set back


def test_ticks_that_nobody_served_are_counted():
    ticker = Ticker(100 * MS)
    ticker.tick(200 * MS)
    assert ticker.tick(510 * MS).missed == 2


def test_a_late_tick_is_not_called_again_and_again(start):
    body = """
        import time
        served = []
        take = runtime.Ticker.tick
        def counted(ticker, now_ns):
            tick = take(ticker, now_ns)
            served.append(tick is not None)
            return tick
        runtime.Ticker.tick = counted
        from std_msgs.msg import Empty
        publisher = self.create_publisher(Empty, "/beside", 10)
        self.create_subscription(Empty, "/beside", lambda message: time.sleep(0.006), 10)
        def work(tick):
            publisher.publish(Empty())
            time.sleep(0.006)  # and as long for the message: more than the period
            if sum(served) == 100:
                print(len(served), flush=True)
                self.end(0)
        self.ticks(0.01, work)
    """
    node = start(textwrap.dedent(body))
    assert 100 <= int(node.stdout.readline()) <= 300  # thousands, if each call sets the timer anew


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_in_order_and_soon(start, number):
    node = start()
    assert node.stdout.readline() == "ready\n"
    began_s = time.monotonic()
    node.send_signal(number)
    output, errors = node.communicate(timeout=10)
    assert (node.returncode, output) == (0, "closed\n"), errors
    assert "Traceback" not in errors
    assert time.monotonic() - began_s < 5.0  # a second where the machine is idle


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("gain:=5.0", ["example", "gain", "0 and 2"]),
        ("gain:=high", ["example", "gain", "float"]),
        ("count:=0", ["example", "count", "1 and 3"]),
        ("mode:=c", ["example", "mode", "a, b"]),
    ],
)
def test_a_parameter_out_of_bounds_is_one_line_and_status_1(start, argument, words):
    node = start("pass", argument)
    _, errors = node.communicate(timeout=20)
    assert node.returncode == 1
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 1, errors
    assert all(word in errors for word in words), errors


def test_an_error_of_a_thread_ends_the_node_with_one_line(start):
    body = """
def work():
    raise ResipError("the cable is unplugged at port 3")
self.start_thread(work)
"""
    node = start(body)
    output, errors = node.communicate(timeout=20)
    assert (node.returncode, output) == (1, "closed\n")
    assert "Traceback" not in errors
    assert "the cable is unplugged at port 3" in errors


def test_a_supervised_node_ends_with_its_supervisor(start, tmp_path):
    starter = tmp_path / "starter.py"
    node_script = tmp_path / "example.py"
    node_script.write_text(NODE.format(body="print('ready', flush=True)"))
    starter.write_text(
        "import subprocess, sys, time\n"
        f"node = subprocess.Popen([sys.executable, {str(node_script)!r}], stdout=subprocess.PIPE, text=True)\n"
        "node.stdout.readline()\nprint(node.pid, flush=True)\ntime.sleep(60)\n"
    )
    supervisor = subprocess.Popen(
        [sys.executable, starter], stdout=subprocess.PIPE, text=True, env={**os.environ, "RESIP_SUPERVISED": "1"}
    )
    pid = int(supervisor.stdout.readline())
    supervisor.kill()
    supervisor.communicate()
    deadline_s = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline_s, "the node outlived its supervisor"
        time.sleep(0.05)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
