"""The same recorded frames through training, the exported module and the node over DDS: the same actions."""

import numpy as np
import pytest
import torch
from fake_demos import write_demos
from geometry_msgs.msg import PoseArray
from resip import rotation, spaces, topics
from resip.control import panda
from resip.nodes import messages, runtime
from resip.policy.artefact import load_module
from resip_training.data.frames import FrameReader
from resip_training.data.mixture import Mixture
from resip_training.data.store import DemoSet
from resip_training.export import export_policy
from resip_training.models.diffusion_policy import views
from resip_training.runs import Budget
from resip_training.train import load_policy_of, train_images
from ros_harness import Observer, node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from small_policies import SMALL

SEED = 3
ROW = 11
TICK_NS = 100_000_000
Q_RAD = panda.RESET_RAD + np.linspace(-0.1, 0.1, 7)
QD_RAD_S = np.linspace(-0.2, 0.3, 7)
FINGERS_M = np.array([0.03, 0.03])
#: float32 sums in another order: measured 1e-6.
BOUND = 1e-4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    demos = write_demos(folder / "demos", n_episodes=2, n_steps=16)
    train_images([demos.path], folder / "run", budget=Budget(steps=2), config=SMALL)
    export_policy(folder / "run", demos.path, folder / "model")
    return folder


def robot_state():
    """As the recorded joints give it."""
    return panda.robot_state(Q_RAD, QD_RAD_S, FINGERS_M.sum()).astype(np.float32)


def first_noise():
    """What a policy that starts with this seed draws first."""
    return torch.randn(1, 32, 10, generator=torch.Generator().manual_seed(SEED))


def trained(run):
    """What the trained policy does under diffusers, with inputs cut as in training."""
    policy, _ = load_policy_of(run / "run")
    cut, rows = views(policy.config), np.array([ROW])
    frames = FrameReader(Mixture([run / "demos"]), cut).read(rows).of(rows)
    front, wrist = (cut[camera].centre(frames[camera]) for camera in spaces.CAMERAS)
    return policy.sample(torch.from_numpy(robot_state()[None]), front, wrist, first_noise()).numpy()[0]


def exported(run, frames):
    """What the exported module does with the frames."""
    module, _ = load_module(run / "model")
    inputs = [torch.from_numpy(array[None]) for array in (robot_state(), *frames.values())]
    with torch.inference_mode():
        return module(*inputs, first_noise()).numpy()[0]


class Cell(Observer):
    """Publishes the recorded frames and joints over and over, on a clock of its own, and hears the first plan."""

    def __init__(self, frames):
        super().__init__()
        self.watch(topics.POLICY_STATUS)
        self.hear(topics.POLICY_PLAN, PoseArray)
        self._frames, self._time_ns = frames, 0
        self._clock = self.node.create_publisher(Clock, topics.CLOCK, runtime.CELL_QOS)
        self._joints = self.node.create_publisher(JointState, topics.JOINT_STATES, runtime.SENSOR_QOS)
        self._images = {
            name: self.node.create_publisher(Image, topics.image(name), runtime.SENSOR_QOS) for name in frames
        }

    def pass_tick(self):
        """Publish everything once, a tick later."""
        self._time_ns += TICK_NS
        names, q = (*panda.JOINT_NAMES, *panda.FINGER_NAMES), np.concatenate([Q_RAD, FINGERS_M])
        qd = np.concatenate([QD_RAD_S, [0.0, 0.0]])
        self._joints.publish(messages.joint_state(names, q, self._time_ns, qd, np.zeros(9)))
        for name, frame in self._frames.items():
            self._images[name].publish(messages.image_msg(frame, self._time_ns, name))
        self._clock.publish(Clock(clock=messages.time_msg(self._time_ns)))
        self.spin(0.05)

    def first_plan(self):
        """The first plan after the policy's start."""

        def started():
            self.pass_tick()
            return self.status[topics.POLICY_STATUS].get("phase") == "idle"

        def planned():
            self.pass_tick()
            return bool(self.seen[topics.POLICY_PLAN])

        self.wait_for(started, "policy node idle")
        assert self.call(topics.POLICY_START).success
        self.wait_for(planned, "a plan")
        return self.seen[topics.POLICY_PLAN][0]


def over_dds(run, frames, log_path):
    """Fingertip poses that the node plans first: ``(32, 3)``, ``(32, 3, 3)``."""
    parameters = {"policy": run / "model", "seed": SEED, "use_sim_time": True}
    program = node("policy_node", log_path, **parameters)
    cell = Cell(frames)
    try:
        poses = [messages.pose_from_msg(pose) for pose in cell.first_plan().poses]
    finally:
        cell.close()
        program.kill()
    return np.stack([pose.position for pose in poses]), np.stack([pose.matrix for pose in poses])


def test_training_the_exported_module_and_the_node_agree(run, tmp_path):
    demos = DemoSet(run / "demos", images=True)
    frames = {camera: demos.images(camera, slice(ROW, ROW + 1))[0] for camera in spaces.CAMERAS}
    for camera, frame in frames.items():  # identical tensors in: what the node decodes is what was recorded
        received = messages.image_pixels(messages.image_msg(frame, 0, camera), camera)
        np.testing.assert_array_equal(received, frame)

    wanted = trained(run)
    module = exported(run, frames)
    np.testing.assert_allclose(module, wanted, atol=BOUND, rtol=0)

    position, matrix = over_dds(run, frames, tmp_path / "policy.log")
    planned = spaces.action_pose(module)
    np.testing.assert_allclose(position, planned.position, atol=1e-7, rtol=0)
    assert rotation.angle_between(matrix, planned.matrix).max() < 1e-6
