"""A graph's processes, with modules of two lines in the nodes' place."""

import subprocess

import pytest
from resip import process
from resip.graph import NodeSpec


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """A node of a graph, from the program that it runs."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(name, program):
        (tmp_path / f"{name}.py").write_text(program)
        return NodeSpec(name, name)

    return write


def test_a_node_that_ends_is_named_with_its_last_line_and_ends_the_others(spec, capfd):
    nodes = [
        spec("endless", "import time\nprint('here', flush=True)\ntime.sleep(1000)\n"),
        spec("brief", "print('no robot')\nraise SystemExit(3)\n"),
    ]
    with pytest.raises(process.GraphError, match="the graph was stopped: brief ended with status 3: no robot"):
        process.run(nodes)
    assert "brief   | no robot" in capfd.readouterr().err


def test_nodes_that_end_while_they_are_signalled_are_ended_all_the_same(spec, monkeypatch):
    """The thread that waits for a node may take its status just before the signal is sent."""
    monkeypatch.setattr(subprocess.Popen, "poll", lambda self: None)
    with pytest.raises(process.GraphError, match="brief ended with status 3"):
        process.run([spec("brief", "raise SystemExit(3)\n")])


def test_the_status_of_the_node_in_the_foreground_is_the_graphs(spec):
    nodes = [spec("endless", "import time\ntime.sleep(1000)\n"), spec("trials", "raise SystemExit(4)\n")]
    assert process.run(nodes, foreground="trials") == 4
