"""The simulated cell on its own: what its cameras and its clock say."""

import pytest
from resip import topics
from resip.nodes import messages, runtime
from ros_harness import Observer, free_port, node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

LATENCY_S = 1.0


class Watcher(Observer):
    """Hears the cell's clock and its front camera, and notes how old each frame is when it comes."""

    def __init__(self):
        super().__init__()
        self.ages_s = []
        self.hear(topics.CLOCK, Clock)
        self.node.create_subscription(Image, topics.image("front"), self._note_age, runtime.SENSOR_QOS)

    def _note_age(self, message):
        now_ns = messages.stamp_ns(self.newest[topics.CLOCK].clock)
        self.ages_s.append((now_ns - messages.stamp_ns(message.header.stamp)) * 1e-9)


@pytest.fixture
def watcher():
    watcher = Watcher()
    yield watcher
    watcher.close()


def test_frames_come_as_late_as_they_are_asked_to(watcher, tmp_path):
    ports = {"arm_port": free_port(), "gripper_port": free_port()}
    cell = node("sim_cell", tmp_path / "cell.log", camera_latency_s=LATENCY_S, **ports)
    watcher.wait_for(lambda: len(watcher.ages_s) >= 3, "frames")
    cell.kill()
    assert min(watcher.ages_s) > LATENCY_S / 2  # the clock's messages may come behind the frames'
