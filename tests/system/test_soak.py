"""The soak's short form: that it runs and measures, not how fast this machine is."""

import json

import pytest
from ros_harness import Program

SECONDS = 15
NODES = {"sim_cell", "front_camera", "wrist_camera", "franka_bridge_node", "diff_ik_node", "policy_node", "trial_node"}


@pytest.mark.timeout(300)
def test_a_soak_runs_the_robots_graph_and_reports_its_figures(tmp_path):
    files = ["--json", str(tmp_path / "soak.json"), "--table", str(tmp_path / "soak.md")]
    command = ["-m", "resip.cli", "soak", "--minutes", str(SECONDS / 60), "--record", str(tmp_path), *files]
    program = Program(command, tmp_path / "soak.log")
    try:
        status = program.popen.wait(280)
    finally:
        program.kill()

    figures = json.loads((tmp_path / "soak.json").read_text())
    assert (figures["trials"], figures["aborted"]) == (1, 0), program.log
    assert figures["ticks"] > 0
    assert figures["latency"]["capture_to_command"]["n"] > 0
    assert all(figures["frames"][camera]["recorded"] > 0 for camera in ("front", "wrist"))
    assert set(figures["memory"]) >= NODES
    assert status == (0 if all(bound["met"] for bound in figures["bounds"]) else 1), program.log
    assert ("resip: error: the soak misses its bounds" in program.log) == (status == 1)
    assert "ticks missed or without a target" in (tmp_path / "soak.md").read_text()
    assert "Traceback" not in program.log
    assert not list(tmp_path.glob("**/*.mcap"))
