"""The soak's short form: that it runs and measures, not how fast this machine is; and what its nodes do over DDS."""

import contextlib
import json

import pytest
from resip import soak as soaks
from ros_harness import Observer, Program
from sros2_policy import KINDS, allows, permissions

SECONDS = 15
NODES = {
    "soak_robot",
    "front_camera",
    "wrist_camera",
    "franka_bridge_node",
    "diff_ik_node",
    "policy_node",
    "trial_node",
}


@pytest.fixture(scope="module")
def soak(tmp_path_factory):
    """A soak that has ended: its folder, its process, and what each node did by the kinds of permissions."""
    folder = tmp_path_factory.mktemp("soak")
    command = ["-m", "resip.cli", "soak", "--minutes", str(SECONDS / 60), "--record", str(folder)]
    command += ["--json", str(folder / "soak.json")]
    program = Program(command, folder / "soak.log")
    observer = Observer()
    done = {}
    try:
        while program.popen.poll() is None:
            observer.spin(0.5)
            for name, names in endpoints(observer.node).items():
                for kind in KINDS:
                    done.setdefault(name, {kind: set() for kind in KINDS})[kind] |= names[kind]
    finally:
        observer.close()
        program.kill()
    return folder, program, done


def endpoints(node):
    """Topics and services of every other node, by the kinds of permissions."""
    by_kind = {
        "publish": node.get_publisher_names_and_types_by_node,
        "subscribe": node.get_subscriber_names_and_types_by_node,
        "reply": node.get_service_names_and_types_by_node,
        "request": node.get_client_names_and_types_by_node,
    }
    found = {}
    for name, namespace in node.get_node_names_and_namespaces():
        if name != node.get_name():
            with contextlib.suppress(RuntimeError):  # it has just ended
                found[name] = {kind: {topic for topic, _ in of(name, namespace)} for kind, of in by_kind.items()}
    return found


@pytest.mark.timeout(300)
def test_a_soak_runs_the_robots_graph_and_reports_its_figures(soak):
    folder, program, _ = soak
    figures = json.loads((folder / "soak.json").read_text())
    assert set(figures["processes"]) >= NODES, program.log
    assert figures["trials"] + figures["trials_left"] == 1
    assert len(figures["stops"]) <= soaks.MOST_STOPS
    if figures["trials"]:  # as there is none where a machine is too slow for a robot
        assert figures["ticks"] > 0
        assert figures["latency"]["capture_to_command"]["n"] > 0
        assert all(figures["frames"][camera]["recorded"] > 0 for camera in ("front", "wrist"))
    met = all(bound["met"] for bound in figures["bounds"])
    assert program.popen.returncode == (0 if met else 1), program.log
    assert ("resip: error: the soak misses its bounds" in program.log) == (not met)
    assert "ticks missed or without a target" in (folder / "soak.md").read_text()
    assert "Traceback" not in program.log
    assert not list(folder.glob("**/*.mcap"))


@pytest.mark.timeout(300)
def test_the_sros2_policy_allows_all_that_the_nodes_do(soak):
    _, _, done = soak
    allowed = permissions()
    assert set(done) >= NODES
    denied = {
        (node, kind, name)
        for node, names in done.items()
        for kind in KINDS
        for name in names[kind]
        if not allows(allowed[node], kind, name)
    }
    assert denied == set()
