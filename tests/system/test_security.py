"""Secured DDS: who has no keys is not let in; where that cannot be had, nothing starts at all."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from geometry_msgs.msg import PoseStamped
from resip import topics
from ros_harness import Observer, Program, own_domain

KEYSTORE = Path(__file__).resolve().parents[2] / "scripts" / "keystore.sh"
NODE = ["-m", "resip.nodes.diff_ik_node", "--ros-args", "--enclave", "/resip/diff_ik_node"]


def secured(keystore):
    """The environment of a node that must have keys."""
    return {
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
        "ROS_SECURITY_KEYSTORE": str(keystore),
    }


def test_a_node_that_cannot_be_secured_does_not_start(tmp_path):
    (tmp_path / "enclaves/resip/diff_ik_node").mkdir(parents=True)  # without keys
    program = Program(NODE, tmp_path / "log", **secured(tmp_path))
    try:
        assert program.popen.wait(60) == 1
    finally:
        program.kill()
    assert "Traceback" not in program.log
    assert "DDS is to be secured (ROS_SECURITY_ENABLE) and cannot be" in program.log.splitlines()[-1]


@pytest.mark.skipif(shutil.which("ros2") is None, reason="the wheels' Fast DDS has no security plugins: needs a ROS")
def test_an_outsider_meets_nobody_to_command(tmp_path):
    subprocess.run([KEYSTORE, tmp_path / "keys"], env={**os.environ, "ROS_DOMAIN_ID": str(own_domain())}, check=True)
    program = Program(NODE, tmp_path / "log", **secured(tmp_path / "keys"))
    outsider = Observer("outsider")
    try:
        publisher = outsider.node.create_publisher(PoseStamped, topics.TARGET_POSE, 1)
        outsider.wait_for(lambda: "holding" in program.log, "the controller")
        outsider.spin(5.0)
        assert publisher.get_subscription_count() == 0
        assert outsider.node.count_publishers(topics.IK_STATUS) == 0
    finally:
        outsider.close()
        program.kill()
