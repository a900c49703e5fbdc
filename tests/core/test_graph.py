"""The graph as data: one declaration of arguments, and the nodes that follow from them."""

import dataclasses
import importlib.util

import pytest
from resip import graph
from resip.errors import ResipError
from resip.graph import GraphArguments

ROBOT = GraphArguments(robot="polymetis", robot_ip="10.0.0.2", front_serial="0123", wrist_serial="456")


def by_name(arguments):
    return {spec.name: spec for spec in graph.graph(arguments)}


def test_the_simulated_graph():
    nodes = by_name(GraphArguments())
    assert list(nodes) == ["sim_cell", "franka_bridge_node", "supervisor_node", "diff_ik_node", "policy_node"]
    assert nodes["policy_node"].parameters["policy"] == "models/one_leg"
    assert nodes["policy_node"].executable == "policy_node"


def test_only_the_cell_itself_does_not_run_on_the_cells_time():
    nodes = by_name(GraphArguments(trials=1))
    on_cell_time = {name for name, spec in nodes.items() if spec.parameters.get("use_sim_time")}
    assert on_cell_time == nodes.keys() - {"sim_cell"}


def test_the_robots_graph_has_cameras_and_the_wall_clock():
    nodes = by_name(ROBOT)
    assert "sim_cell" not in nodes
    assert nodes["front_camera"].parameters["serial"] == "0123"
    assert nodes["wrist_camera"].executable == "camera_node"
    assert nodes["franka_bridge_node"].parameters["host"] == "10.0.0.2"
    assert not any("use_sim_time" in spec.parameters for spec in nodes.values())


def test_the_hand_opens_as_far_as_the_task_wants():
    for arguments, open_m in (({"task": "lamp"}, 0.07), ({"task": "teleop", "assembly": "one_leg"}, 0.065)):
        assert by_name(GraphArguments(**arguments))["franka_bridge_node"].parameters["gripper_open_m"] == open_m


def test_trials_add_the_node_that_runs_them():
    parameters = by_name(GraphArguments(trials=3, seed=7, record="out"))[graph.TRIAL_NODE].parameters
    assert (parameters["n"], parameters["seed"], parameters["out_dir"]) == (3, 7, "out")


def test_teleop_has_an_operator_in_the_policys_place_and_nothing_else_is_different():
    one_leg, teleop = by_name(GraphArguments()), by_name(GraphArguments(task="teleop", profile="fine"))
    assert list(teleop) == ["sim_cell", "franka_bridge_node", "supervisor_node", "diff_ik_node", "spacemouse_node"]
    for name in ("franka_bridge_node", "diff_ik_node"):
        assert teleop[name] == one_leg[name]
    assert teleop["sim_cell"].parameters["task"] == "one_leg"
    assert teleop["spacemouse_node"].parameters["profile"] == "fine"
    assert "terminal" not in teleop["spacemouse_node"].parameters


def test_the_keyboard_is_that_of_a_named_terminal_for_nodes_have_none():
    arguments = GraphArguments(task="teleop", source="keyboard", terminal="/dev/pts/9")
    assert by_name(arguments)["spacemouse_node"].parameters["terminal"] == "/dev/pts/9"


def test_a_keyboard_without_a_terminal_is_refused(monkeypatch):
    monkeypatch.setattr(graph, "own_terminal", lambda: "")
    with pytest.raises(ResipError, match="start this in one"):
        graph.graph(GraphArguments(task="teleop", source="keyboard"))


def test_demonstrations_are_trials_that_an_operator_ends():
    arguments = dataclasses.replace(ROBOT, task="teleop", trials=5, operator="ann", record="demos")
    spec = by_name(arguments)[graph.TRIAL_NODE]
    assert spec.executable == "session_node"
    wanted = {"task": "one_leg", "n": 5, "operator": "ann", "policy": "teleop:spacemouse", "time_limit_s": 3600.0}
    assert spec.parameters.items() >= wanted.items()


class TestEvaluation:
    @pytest.fixture
    def protocol(self, tmp_path):
        """A protocol file of two policies."""
        path = tmp_path / "ab.yaml"
        path.write_text("task: one_leg\npolicies: {a: models/one_leg, b: models/mine}\nn: 4\nseed: 9\n")
        return path

    def test_a_protocol_says_what_the_nodes_do(self, protocol):
        nodes = by_name(GraphArguments(task="evaluate", protocol=str(protocol), operator="ann"))
        assert nodes["policy_node"].parameters["policy"] == "models/one_leg,models/mine"
        assert nodes["sim_cell"].parameters["task"] == "one_leg"
        wanted = {"policy": "a=models/one_leg,b=models/mine", "n": 4, "seed": 9, "order": "blind", "operator": "ann"}
        assert nodes[graph.TRIAL_NODE].parameters.items() >= wanted.items()

    def test_its_folder_has_its_name_so_that_the_same_command_goes_on(self, protocol):
        arguments = graph.resolve(GraphArguments(task="evaluate", protocol=str(protocol)))
        assert arguments.record == "trials/ab"
        assert graph.resolve(dataclasses.replace(arguments, record="mine")).record == "mine"

    def test_what_it_says_is_not_said_again(self, protocol):
        with pytest.raises(ResipError, match="seed is 3 here and 9 in"):
            graph.graph(GraphArguments(task="evaluate", protocol=str(protocol), seed=3))
        with pytest.raises(ResipError, match="task is 'teleop' here"):
            graph.graph(GraphArguments(task="teleop", protocol=str(protocol)))

    def test_without_a_protocol_there_is_nothing_to_evaluate(self):
        with pytest.raises(ResipError, match="evaluate needs protocol"):
            graph.graph(GraphArguments(task="evaluate"))

    def test_policies_can_be_given_without_a_file(self):
        nodes = by_name(GraphArguments(policy="x=models/a,y=models/b", trials=2, stop_early=True))
        assert nodes["policy_node"].parameters["policy"] == "models/a,models/b"
        assert nodes[graph.TRIAL_NODE].parameters["stop_early"]

    def test_an_operator_who_judges_has_a_page_and_keys(self):
        simulated = by_name(GraphArguments(trials=1, judge="operator", terminal="/dev/pts/9"))
        real = by_name(dataclasses.replace(ROBOT, trials=1, terminal="/dev/pts/9"))
        for nodes in (simulated, real):
            assert nodes[graph.TRIAL_NODE].parameters.items() >= {"page_port": 8100, "terminal": "/dev/pts/9"}.items()
        assert "page_port" not in by_name(GraphArguments(trials=1))[graph.TRIAL_NODE].parameters

    def test_an_operator_who_moves_the_robot_has_a_page_and_the_terminal_for_that(self):
        nodes = by_name(GraphArguments(task="teleop", source="keyboard", trials=1, terminal="/dev/pts/9"))
        assert nodes["spacemouse_node"].parameters["terminal"] == "/dev/pts/9"
        assert nodes[graph.TRIAL_NODE].parameters["page_port"] == 8100
        assert "terminal" not in nodes[graph.TRIAL_NODE].parameters


def test_every_node_has_its_module():
    for arguments in (GraphArguments(trials=1), ROBOT, GraphArguments(task="teleop", trials=1)):
        for spec in graph.graph(arguments):
            assert importlib.util.find_spec(spec.module), spec.module


@pytest.mark.parametrize("missing", ["robot_ip", "front_serial", "wrist_serial"])
def test_a_robot_needs_its_address_and_its_cameras(missing):
    with pytest.raises(ResipError, match=missing):
        graph.graph(dataclasses.replace(ROBOT, **{missing: ""}))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": "one_legg"}, "did you mean 'one_leg'"),
        ({"trials": -1}, "trials"),
        ({"rtf": -0.5}, "rtf"),
        ({"headless": True}, "replay"),
        ({"policy": "a=x,b=y"}, "take turns in trials"),
        ({"stop_early": True, "trials": 5}, "stop_early compares two policies, got 1"),
        ({"task": "teleop", "policy": "models/one_leg"}, "no policy"),
        ({"task": "teleop", "profile": "keyboard"}, "choose from fine, wired, wireless"),
        ({"task": "teleop", "assembly": "lampp"}, "assembly"),
        ({"task": "teleop", "source": "keyboard", "deadman": "button"}, "needs source spacemouse"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message):
    with pytest.raises(ResipError, match=message):
        graph.graph(GraphArguments(**wrong))


def test_arguments_survive_the_way_through_text():
    arguments = dataclasses.replace(ROBOT, trials=2, rtf=0.5, headless=True, policy="replay:a.npz")
    texts = {f.name: str(getattr(arguments, f.name)) for f in dataclasses.fields(arguments)}
    assert graph.arguments_from_strings(texts) == arguments


@pytest.mark.parametrize(
    ("name", "text"),
    [("trials", "many"), ("trials", "1.5"), ("rtf", "fast"), ("headless", "maybe"), ("robot", "ur5"), ("polcy", "x")],
)
def test_text_that_is_no_value_is_refused_by_name(name, text):
    with pytest.raises(ResipError, match=name):
        graph.arguments_from_strings({name: text})


def test_every_argument_is_described():
    help_texts = graph.argument_help()
    assert help_texts.keys() == {f.name for f in dataclasses.fields(GraphArguments)}
    assert all(text.endswith(".") for text in help_texts.values())
