"""The line that says what a trial does."""

import io

from resip.trials.live import Status, StatusLine
from rich.console import Console

RUNNING = Status(2, 10, 12, "screw the leg", time_s=23.4, limit_s=70.0, tick_hz=10.0, latency_ms=34.2, rtf=0.917)


def test_it_tells_trial_phase_time_rate_latency_and_pace():
    assert (
        str(RUNNING)
        == "trial 3/10 (seed 12) | screw the leg |  23.4 of 70 s | 10.0 Hz | latency 34 ms | 0.92x real time"
    )


def test_what_is_not_known_is_left_out():
    assert str(Status(0, 1, 0, "arming")) == "trial 1/1 (seed 0) | arming"


def test_in_a_log_a_phase_is_told_once():
    log = io.StringIO()
    line = StatusLine(Console(file=log, width=200))
    for phase in ("arming", "arming", "running", "running"):
        line.show(Status(0, 1, 0, phase))
    assert log.getvalue().splitlines() == ["trial 1/1 (seed 0) | arming", "trial 1/1 (seed 0) | running"]


def test_on_a_terminal_the_line_changes_in_place_and_said_lines_stay():
    screen = io.StringIO()
    line = StatusLine(Console(file=screen, width=120, force_terminal=True))
    line.show(Status(0, 1, 0, "arming"))
    line.show(Status(0, 1, 0, "running"))
    line.say("trial 1: success")
    written = screen.getvalue()
    assert "\r" in written or "\x1b[" in written
    assert written.endswith("trial 1: success\n")
    assert written.count("\n") < 4
