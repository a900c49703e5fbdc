"""The short form of the fault matrix: `make faults` has all of it. Times are the cell's; a slow machine may run it."""

import os

import pytest
from resip.faults import matrix
from ros_harness import own_domain


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "ROS_DOMAIN_ID", str(own_domain()))
    return {result.fault: result for result in matrix.run(short=True, folder=tmp_path)}


def test_the_arm_holds_in_time_says_why_and_moves_again_only_once_armed(results):
    assert results.keys() == set(matrix.SHORT)
    assert [result for result in results.values() if not result.ok] == []
    assert all(result.rearmed for result in results.values())
