"""A data set from a bag has what the live policy node saw, and what it did."""

import contextlib
import json

import numpy as np
import pytest
import torch
from geometry_msgs.msg import PoseArray
from rclpy.serialization import serialize_message
from resip import spaces, topics
from resip.control import panda
from resip.nodes import messages
from resip.policy.artefact import load_policy
from resip.recording import definitions
from resip.recording.reader import Bag
from resip.recording.resampling import resample
from resip.recording.writer import LOST_KEY, BagWriter, OfferedQos
from ros_harness import TICK_NS, node
from test_policy_node import Cell, write_model

NAMES = (*panda.JOINT_NAMES, *panda.FINGER_NAMES)


def on_the_wire(kind, message):
    """The bytes that DDS sends: ``serialize_message`` reserves more than it fills, and leaves what lay there before."""
    data = serialize_message(message)
    for spare in (0, 4, 8):
        with contextlib.suppress(definitions.DamagedMessageError):
            definitions.decode(kind, data[: len(data) - spare])
            return data[: len(data) - spare]
    raise AssertionError(f"{kind} of {len(data)} bytes cannot be decoded")


class Fingerprint(torch.nn.Module):
    """Moves slowly on from where the robot is; less than a millimetre of it tells all the numbers of what it saw."""

    def forward(
        self, robot_state: torch.Tensor, front: torch.Tensor, wrist: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        unseen = robot_state[:, 9:].sum(dim=1)
        brightness = torch.stack([front.float().mean(dim=(1, 2, 3)), wrist.float().mean(dim=(1, 2, 3))], dim=1)
        told = torch.cat([brightness / 255, unseen[:, None]], dim=1) * 1e-3
        action = torch.cat([robot_state[:, :3] + told, robot_state[:, 3:9], -torch.ones_like(told[:, :1])], dim=1)
        chunk = action[:, None, :].expand(-1, 32, -1).clone()
        chunk[:, :, 0] += 2e-4 * torch.arange(32)
        return chunk


class RecordedCell(Cell):
    """A cell that moves and changes between the ticks, not at them, and a recorder of all that is said."""

    def __init__(self, directory):
        super().__init__()
        self._writer = BagWriter(directory)
        self.hear(topics.POLICY_PLAN, PoseArray)

    def joints(self):
        phase = (self.time_ns + TICK_NS // 2) // TICK_NS
        q = np.append(panda.RESET_RAD + 0.002 * np.sin(phase + np.arange(panda.DOF)), [0.03, 0.03])
        qd = np.append(0.02 * np.cos(phase + np.arange(panda.DOF)), [0.0, 0.0])
        joints = messages.joint_state(NAMES, q, self.time_ns, qd, np.zeros(9))
        self._write(topics.JOINT_STATES, "sensor_msgs/msg/JointState", joints)
        return joints

    def say(self):
        if self.time_ns % TICK_NS == 0:
            self._publish_pictures()

    def _publish_pictures(self):
        for i, camera in enumerate(spaces.CAMERAS):
            value = (13 * (self.time_ns // TICK_NS) + 90 * i) % 251
            picture = np.full((spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3), value, np.uint8)
            message = messages.image_msg(picture, self.time_ns, camera)
            self._images[camera].publish(message)
            self._write(topics.image(camera), "sensor_msgs/msg/Image", message)

    def _write(self, topic, kind, message):
        self._writer.add_topic(topic, kind, OfferedQos(reliable=True))
        self._writer.write(topic, on_the_wire(kind, message), self.time_ns, self.time_ns)

    def finish(self):
        """Write down what the policy node said, and close the bag."""
        for message in self.seen[topics.TARGET_POSE]:
            self._write(topics.TARGET_POSE, "geometry_msgs/msg/PoseStamped", message)
        for message in self.seen[topics.TARGET_GRIPPER]:
            self._write(topics.TARGET_GRIPPER, "sensor_msgs/msg/JointState", message)
        self._writer.close({LOST_KEY: json.dumps({})})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Forty ticks of the live node: its model, the steps of their bag, and what it published."""
    folder = tmp_path_factory.mktemp("parity")
    (folder / "model").mkdir()
    model = write_model(folder / "model", Fingerprint())
    surroundings = RecordedCell(folder / "bag")
    program = node("policy_node", folder / "policy.log", policy=model, use_sim_time=True)
    try:
        surroundings.pass_time_until(phase="idle")
        surroundings.call(topics.POLICY_START)
        surroundings.pass_time_until(phase="running")
        surroundings.pass_time(40)
        surroundings.finish()
        yield model, resample(Bag(folder / "bag")), surroundings.seen
    finally:
        program.kill()
        surroundings.close()


def test_where_the_stamps_are_equal_the_observation_is_the_nodes(run):
    model, steps, seen = run
    policy = load_policy(model, seed=0)
    rows = {int(stamp): row for row, stamp in enumerate(steps.observed_ns["front"])}
    compared = 0
    for plan in seen[topics.POLICY_PLAN]:
        row = rows.get(messages.stamp_ns(plan.header.stamp))
        if row is None:
            continue  # the first chunk is predicted before anything is executed
        expected = policy.chunk(steps.robot_state[row], steps.images["front"][row], steps.images["wrist"][row])[0]
        planned = plan.poses[0].position
        np.testing.assert_array_equal([planned.x, planned.y, planned.z], expected[:3])
        compared += 1
    assert compared >= 4


def test_the_fingerprint_tells_one_observation_from_the_next(run):
    model, steps, _ = run
    policy = load_policy(model, seed=0)
    told = [
        policy.chunk(steps.robot_state[row], steps.images["front"][row], steps.images["wrist"][row])[0, :3]
        for row in range(10)
    ]
    assert (np.abs(np.diff(told, axis=0)) > 1e-6).all()


def test_the_action_of_each_tick_is_the_target_that_the_node_published_then(run):
    _, steps, seen = run
    actions = dict(zip(steps.tick_ns.tolist(), steps.action, strict=True))
    targets = {messages.stamp_ns(target.header.stamp): target for target in seen[topics.TARGET_POSE]}
    assert set(actions) <= set(targets)
    assert len(actions) + steps.idle == len(targets) >= 40
    for stamp, action in actions.items():
        pose = messages.pose_from_msg(targets[stamp].pose)
        np.testing.assert_array_equal(
            action[spaces.ACTION_ROT6D], spaces.pack_action(pose.position, pose.matrix, 0)[3:9]
        )
