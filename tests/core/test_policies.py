"""The SROS2 policy against the graph that it protects; system/test_soak_graph.py tests that it suffices there."""

import pytest
from resip import soak, spaces, topics
from resip.graph import GraphArguments, graph
from sros2_policy import enclaves, permissions

ROS_TOPICS = {"/rosout", "/parameter_events", topics.CLOCK}
NAMED = {value for name, value in vars(topics).items() if name.isupper() and value.startswith("/")} | {
    topic(camera) for camera in spaces.CAMERAS for topic in (topics.image, topics.compressed, topics.camera_info)
}
ROBOT = {"robot": "polymetis", "robot_ip": "10.0.0.2", "front_serial": "1", "wrist_serial": "2", "trials": 1}


@pytest.fixture
def rights():
    return permissions()


def who_may(rights, kind, name):
    return {node for node, own in rights.items() if name in own[kind]}


@pytest.mark.parametrize(
    "arguments",
    [{"trials": 1}, ROBOT, {"task": "teleop", "trials": 1}, {"task": "teleop", **ROBOT}],
    ids=["simulation", "robot", "teleop, simulation", "teleop, robot"],
)
def test_every_node_of_a_graph_has_its_enclave(arguments):
    paths = enclaves()
    assert {spec.name: spec.enclave for spec in graph(GraphArguments(**arguments))}.items() <= paths.items()


def test_the_soak_has_its_enclaves_too(tmp_path):
    assert {spec.name for spec in soak.nodes(1.0, tmp_path)} <= set(enclaves())


def test_only_names_of_the_graph_are_allowed(rights):
    for node, own in rights.items():
        for names in own.values():
            foreign = {name for name in names - NAMED - ROS_TOPICS - {"*"} if not name.startswith(f"/{node}/")}
            assert foreign <= {"/sim_cell/set_parameters", "/policy_node/set_parameters"}, node


def test_every_name_of_the_graph_has_somebody_who_may_give_it(rights):
    given = {name for own in rights.values() for name in own["publish"] | own["reply"]}
    assert given >= NAMED


def test_only_the_controller_commands_joints_and_only_one_source_at_a_time_gives_targets(rights):
    assert who_may(rights, "publish", topics.JOINT_COMMAND) == {"diff_ik_node"}
    assert who_may(rights, "publish", topics.TARGET_POSE) == {"policy_node", "spacemouse_node"}
    assert who_may(rights, "publish", topics.TARGET_GRIPPER) == {"policy_node", "spacemouse_node"}
    assert who_may(rights, "publish", topics.PERMIT) == {"supervisor_node"}
    assert who_may(rights, "request", topics.BRIDGE_ARM) == {"supervisor_node"}
    assert who_may(rights, "request", topics.ARM) == {"trial_node", "operator"}
    assert not any("*" in own[kind] for own in rights.values() for kind in ("publish", "reply", "request"))


def test_an_operator_publishes_nothing_but_logs(rights):
    assert rights["operator"]["publish"] == {"/rosout", "/parameter_events", topics.ABOUT}
