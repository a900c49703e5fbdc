"""The policy node alone, between a fake clock, fake cameras and a fake robot: when it speaks and when it holds."""

import json

import numpy as np
import pytest
import torch
from geometry_msgs.msg import PoseArray
from resip import spaces, topics
from resip.control import panda
from resip.control.limits import blames_policy
from resip.nodes import messages, runtime
from resip.policy import artefact
from resip.policy.replay import save_actions
from ros_harness import TICK_NS, Surroundings, node
from sensor_msgs.msg import Image

FRAME = np.full((spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3), 50, np.uint8)


class StayThere(torch.nn.Module):
    """Stays where the robot is; says what is not a number once the front image is bright."""

    def forward(
        self, robot_state: torch.Tensor, front: torch.Tensor, wrist: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        pose = torch.cat([robot_state[:, :9], torch.full_like(robot_state[:, :1], -1.0)], dim=1)
        actions = pose[:, None, :].expand(-1, 32, -1).clone()
        if int(front[0, 0, 0, 0]) > 200:
            actions[:, 5:] = float("nan")
        return actions


class ThinkLong(torch.nn.Module):
    """Stays where the robot is, after a second or more where the front image is bright."""

    def forward(
        self, robot_state: torch.Tensor, front: torch.Tensor, wrist: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        thought = torch.eye(128)
        if int(front[0, 0, 0, 0]) > 200:
            for _ in range(20000):
                thought = thought @ thought
        pose = torch.cat([robot_state[:, :9], -thought[:1, :1].expand(robot_state.shape[0], 1)], dim=1)
        return pose[:, None, :].expand(-1, 32, -1).clone()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), StayThere())


def write_model(folder, policy):
    """The folder of an exported policy."""
    module = torch.jit.script(policy)
    module.save(str(folder / artefact.MODULE_FILE))
    state = panda.robot_state(panda.RESET_RAD, np.zeros(7), 0.06)[None].astype(np.float32)
    golden = {"robot_state": state, "front": FRAME[None], "wrist": FRAME[None], "noise": np.zeros((1, 32, 10), "f4")}
    actions = module(*map(torch.from_numpy, golden.values())).numpy()
    np.savez(folder / artefact.GOLDEN_FILE, allow_pickle=False, **golden, actions=actions)
    manifest = {
        "format": artefact.FORMAT,
        "format_version": artefact.FORMAT_VERSION,
        "contract": spaces.contract("image"),
        "horizons": {"observation": 1, "prediction": 32, "action": 8},
        "sha256": {name: artefact.file_sha256(folder / name) for name in (artefact.MODULE_FILE, artefact.GOLDEN_FILE)},
    }
    (folder / artefact.MANIFEST_FILE).write_text(json.dumps(manifest))
    return folder


class Cell(Surroundings):
    """With frames of both cameras at every tick."""

    def __init__(self):
        super().__init__()
        self._images = {
            name: self.node.create_publisher(Image, topics.image(name), runtime.SENSOR_QOS) for name in spaces.CAMERAS
        }
        self.frames = dict.fromkeys(spaces.CAMERAS, FRAME)

    def say(self):
        for name, frame in self.frames.items():
            if frame is not None and self.time_ns % TICK_NS == 0:
                self._images[name].publish(messages.image_msg(frame, self.time_ns, name))


@pytest.fixture
def surroundings():
    surroundings = Cell()
    yield surroundings
    surroundings.close()


@pytest.fixture
def policy_node(tmp_path):
    """Start the node; it is gone after the test."""
    programs = []

    def start(policy):
        programs.append(node("policy_node", tmp_path / "policy.log", policy=policy, use_sim_time=True))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


def test_it_says_nothing_before_it_is_started(policy_node, surroundings, model):
    policy_node(model)
    surroundings.pass_time_until(phase="idle")
    assert surroundings.silent()


def test_before_it_is_started_it_says_which_of_its_inputs_have_not_come(policy_node, surroundings, model):
    surroundings.robot_is_there = False
    policy_node(model)
    surroundings.pass_time_until(phase="idle", missing="nothing has come from state yet")
    surroundings.robot_is_there = True
    surroundings.pass_time_until(phase="idle", missing="")


def test_its_targets_have_the_exact_times_of_the_ticks(policy_node, surroundings, model):
    policy_node(model)
    surroundings.pass_time_until(phase="idle")
    assert surroundings.call(topics.POLICY_START).success
    surroundings.pass_time_until(phase="running")
    surroundings.pass_time(20)
    surroundings.wait_for_status(topics.POLICY_STATUS, phase="running")
    stamps_ns = np.array([messages.stamp_ns(m.header.stamp) for m in surroundings.seen[topics.TARGET_POSE]])
    assert len(stamps_ns) >= 20
    assert np.all(stamps_ns % TICK_NS == 0)
    assert np.all(np.diff(stamps_ns) == TICK_NS)
    pose = messages.pose_from_msg(surroundings.newest[topics.TARGET_POSE].pose)
    np.testing.assert_allclose(pose.position, panda.ee_pose(panda.RESET_RAD).position, atol=1e-6)
    assert surroundings.newest[topics.TARGET_GRIPPER].position[0] == spaces.GRIPPER_OPEN
    assert surroundings.status[topics.POLICY_STATUS]["missed_ticks"] == "0"
    assert surroundings.call(topics.POLICY_STOP).success
    assert surroundings.silent()


def test_inference_that_takes_long_delays_no_tick(policy_node, surroundings, tmp_path):
    policy_node(write_model(tmp_path, ThinkLong()))
    surroundings.pass_time_until(phase="idle")
    surroundings.frames["front"] = np.full_like(FRAME, 255)
    surroundings.call(topics.POLICY_START)
    surroundings.pass_time_until(phase="running")
    told = surroundings.told[topics.POLICY_STATUS]
    waiting = [status for status in told if status["phase"] == "waiting"]
    assert [int(status["ticks"]) for status in waiting] == list(range(1, len(waiting) + 1))
    assert len(waiting) > 2  # the one that asked for it, and others while it was thought about
    first = next(status for status in told if status["chunk"] == "1")
    assert first["missed_ticks"] == "0"
    assert float(first["inference_ms"]) > 100


def test_the_status_tells_what_each_stage_took_and_how_old_what_is_executed_is(policy_node, surroundings, model):
    policy_node(model)
    surroundings.pass_time_until(phase="idle")
    surroundings.call(topics.POLICY_START)
    surroundings.pass_time_until(phase="running", chunk="2")
    told = surroundings.told[topics.POLICY_STATUS]
    for stage in ("preprocess_ms", "inference_ms"):
        assert [float(status[stage]) > 0 for status in told if status[stage]] == [True, True]  # once a chunk
    ages_ms = [float(status["execution_age_ms"]) for status in told if status["phase"] == "running"]
    assert min(ages_ms) < 100 * 8 <= max(ages_ms)  # the first eight actions of a chunk, and then the next chunk's


def test_every_chunk_is_published_as_a_plan_of_its_observations_time(policy_node, surroundings, model):
    surroundings.hear(topics.POLICY_PLAN, PoseArray)
    policy_node(model)
    surroundings.pass_time_until(phase="idle")
    surroundings.call(topics.POLICY_START)
    surroundings.pass_time_until(phase="running")
    surroundings.wait_for(lambda: surroundings.seen[topics.POLICY_PLAN], "a plan")
    plan = surroundings.newest[topics.POLICY_PLAN]
    assert plan.header.frame_id == spaces.BASE_FRAME
    assert 0 < messages.stamp_ns(plan.header.stamp) <= surroundings.time_ns
    assert len(plan.poses) == 32
    pose = messages.pose_from_msg(plan.poses[-1])
    np.testing.assert_allclose(pose.position, panda.ee_pose(panda.RESET_RAD).position, atol=1e-6)


def test_what_is_not_a_number_stops_it(policy_node, surroundings, model):
    program = policy_node(model)
    surroundings.pass_time_until(phase="idle")
    surroundings.call(topics.POLICY_START)
    surroundings.pass_time_until(phase="running")
    surroundings.frames["front"] = np.full_like(FRAME, 255)
    surroundings.pass_time_until(phase="stopped")
    assert "not finite at action 5" in surroundings.reason
    assert blames_policy(surroundings.reason)
    assert surroundings.silent()
    assert program.log.count("stopped, the arm holds") == 1
    assert "Traceback" not in program.log

    surroundings.frames["front"] = FRAME
    surroundings.call(topics.POLICY_START)
    surroundings.pass_time_until(phase="running")


def test_a_camera_that_vanishes_is_named_and_waited_for(policy_node, surroundings, model):
    program = policy_node(model)
    surroundings.pass_time_until(phase="idle")
    surroundings.call(topics.POLICY_START)
    surroundings.pass_time_until(phase="running")
    surroundings.frames["wrist"] = None
    surroundings.pass_time_until(phase="holding")
    assert surroundings.reason.startswith("nothing has come from wrist for")
    assert surroundings.silent()
    assert program.log.count("nothing has come from wrist") == 1

    surroundings.frames["wrist"] = FRAME
    surroundings.pass_time_until(phase="running")


def test_an_image_of_the_wrong_size_stops_it(policy_node, surroundings, model):
    policy_node(model)
    surroundings.pass_time_until(phase="idle")
    surroundings.frames["front"] = np.zeros((100, 100, 3), np.uint8)
    surroundings.call(topics.POLICY_START)
    surroundings.pass_time_until(phase="stopped")
    assert "/front/color/image_raw" in surroundings.reason
    assert "(100, 100, 3)" in surroundings.reason
    assert not blames_policy(surroundings.reason)


def test_recorded_actions_that_jump_stop_it(policy_node, surroundings, tmp_path):
    home = panda.ee_pose(panda.RESET_RAD)
    far = spaces.pack_action(home.position + [0.0, 0.0, 0.5], home.matrix, -1.0)
    near = spaces.pack_action(home.position, home.matrix, -1.0)
    save_actions(tmp_path / "jump.npz", np.array([near] * 5 + [far] * 5))
    policy_node(f"replay:{tmp_path / 'jump.npz'}")
    surroundings.pass_time_until(phase="idle")
    surroundings.call(topics.POLICY_START)
    surroundings.pass_time_until(phase="stopped")
    assert surroundings.reason.startswith("unsound action: the target jumps by 0.500 m")
    assert blames_policy(surroundings.reason)
    assert len(surroundings.seen[topics.TARGET_POSE]) == 5


def test_an_altered_model_is_refused_in_one_line(policy_node, model, tmp_path):
    altered = tmp_path / "altered"
    altered.mkdir()
    for path in model.iterdir():
        (altered / path.name).write_bytes(path.read_bytes())
    with (altered / artefact.MODULE_FILE).open("ab") as file:
        file.write(b"0")
    program = policy_node(altered)
    assert program.popen.wait(60) == 1
    assert len(program.log.strip().splitlines()) == 1
    assert str(altered / artefact.MODULE_FILE) in program.log


def test_policies_take_turns_and_say_which_one_runs(policy_node, surroundings, model, tmp_path):
    home = panda.ee_pose(panda.RESET_RAD)
    save_actions(tmp_path / "a.npz", np.array([spaces.pack_action(home.position, home.matrix, 1.0)] * 200))
    recording = f"replay:{tmp_path / 'a.npz'}"
    policy_node(f"{model},{recording}")
    surroundings.pass_time_until(phase="idle")
    for number, name in ((1, recording), (0, str(model))):
        surroundings.set_parameter("/policy_node", "chosen", number)
        assert surroundings.call(topics.POLICY_START).success
        surroundings.pass_time_until(phase="running", model=name)
        assert surroundings.call(topics.POLICY_STOP).success
    surroundings.set_parameter("/policy_node", "chosen", 2)
    refused = surroundings.call(topics.POLICY_START)
    assert (refused.success, refused.message) == (False, "there is no policy 2: choose from 0 to 1")
