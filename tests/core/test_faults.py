"""What the fault matrix measures on the arm's motion, and what it writes."""

import numpy as np
import pytest
from resip.faults import report
from resip.faults.measure import REST_M_S, hold
from resip.faults.report import Result

TIMES_S = np.arange(0.0, 3.0, 0.01)


def moved(until_s, speed_m_s=0.1, creep_m_s=0.0):
    """A fingertip that moves until a time, and creeps from then on."""
    x = speed_m_s * np.minimum(TIMES_S, until_s) + creep_m_s * np.maximum(TIMES_S - until_s, 0.0)
    return np.stack([x, np.zeros_like(x), np.zeros_like(x)], axis=1)


def test_the_time_to_hold_is_from_the_fault_to_rest():
    held = hold(TIMES_S, moved(1.15), fault_s=1.0)
    assert held.time_s == pytest.approx(0.15, abs=0.03)
    assert held.path_m == pytest.approx(0.015, abs=2e-3)
    assert held.drift_m == pytest.approx(0.0, abs=1e-9)


def test_an_arm_that_rests_already_holds_at_once():
    assert hold(TIMES_S, moved(0.5), fault_s=1.0).time_s == 0.0


def test_creeping_is_drift():
    held = hold(TIMES_S, moved(1.1, creep_m_s=REST_M_S / 10), fault_s=1.0)
    assert held.drift_m == pytest.approx(REST_M_S / 10 * 1.5, rel=0.05)


def test_an_arm_that_never_stops_has_no_time_to_hold():
    assert hold(TIMES_S, moved(9.0), fault_s=1.0).time_s == np.inf


def result(**changes):
    values = {
        "fault": "camera freeze",
        "time_to_hold_s": 0.1,
        "path_m": 0.01,
        "drift_m": 0.0,
        "speed_m_s": 0.1,
        "reason": "the front camera is frozen",
        "named": True,
        "rearmed": True,
    }
    return Result(**values | changes)


@pytest.mark.parametrize("bad", [{"time_to_hold_s": 0.21}, {"drift_m": 0.01}, {"named": False}, {"rearmed": False}])
def test_every_bound_counts(bad):
    assert result().ok
    assert not result(**bad).ok


def test_the_table_goes_between_the_pages_marks(tmp_path):
    page = tmp_path / "safety.md"
    page.write_text("before\n<!-- written by `make faults` -->\nold\n<!-- end -->\nafter\n")
    report.write_table([result()], page)
    text = page.read_text()
    assert "| camera freeze | 100 ms |" in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
