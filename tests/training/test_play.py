"""Playing an episode: the agents, the video, the viewer."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import av
import mujoco.viewer
import numpy as np
import pytest
import torch
from PIL import Image
from resip import rotation, spaces
from resip.control import panda
from resip.errors import ResipError
from resip_training import evaluate
from resip_training.agents import RandomAgent, zero_agent
from resip_training.checkpoints import load_teacher
from resip_training.play import TILE_HEIGHT_PX, TILE_WIDTH_PX, make_agent, play
from resip_training.render.intent import PX_PER_MM, Intent, draw
from resip_training.render.renderer import Renderer
from resip_training.render.replay import Replay, View
from resip_training.rollout.episodes import observe
from resip_training.rollout.played import TeacherAgent
from resip_training.sim import tasks
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.task import nominal_poses
from tiny_runs import write_base_run, write_residual_run

LIVE = np.array([0])
STEPS = 4


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peg_hole of a few steps."""
    changed = replace(tasks.PEG_HOLE, max_steps=STEPS)
    monkeypatch.setattr(tasks, "get", lambda name: changed)


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


# ---- agents ----


def test_the_expert_plays_to_the_end(capsys: pytest.CaptureFixture[str]):
    steps = play("peg_hole", "expert", seed=5)
    assert 20 < steps < tasks.PEG_HOLE.max_steps
    assert f"peg_hole, expert, seed 5: success after {steps} steps" in capsys.readouterr().out


def test_nobody_moves_nothing_until_the_time_is_over(short: None, capsys: pytest.CaptureFixture[str]):
    assert play("peg_hole", "zero", seed=5) == STEPS
    assert "out of time" in capsys.readouterr().out
    env = AssemblyEnv("peg_hole", threads=1)
    observation, _ = env.reset(seed=5)
    after = env.step(zero_agent(env, observation, LIVE))[0]
    np.testing.assert_allclose(after["robot_state"][:, :9], observation["robot_state"][:, :9], atol=1e-3)


def test_chance_follows_from_its_seed_and_asks_for_what_the_arm_can_do():
    env = AssemblyEnv("peg_hole", threads=1)
    observation, _ = env.reset(seed=5)
    once, again, other = (RandomAgent(seed)(env, observation, LIVE) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()
    now, asked = spaces.action_pose(observation["robot_state"][:, :10]), spaces.action_pose(once)
    assert np.abs(asked.position - now.position).max() <= 0.04
    assert rotation.angle_between(asked.matrix, now.matrix).max() <= 0.3 * np.sqrt(3)
    env.step(once)
    assert env.worlds.finite().all()


def test_a_checkpoint_acts_and_must_be_of_the_task(short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def predict(robot_state, front, wrist, noise):
        asked.append((front.shape, noise.clone()))
        held = torch.cat([robot_state[:, :9], -torch.ones(len(robot_state), 1)], dim=-1)
        return held.unsqueeze(1).repeat(1, 8, 1)

    policy = evaluate.ImagePolicy(predict, "peg_hole", "low", {"prediction": 8, "action": 2}, sha256="", learned={})
    monkeypatch.setattr(evaluate, "load", lambda path: policy)
    assert play("peg_hole", str(tmp_path), seed=3) == STEPS
    assert [shape for shape, _ in asked] == [(1, 240, 320, 3)] * (STEPS // 2)
    first = asked[0][1]
    play("peg_hole", str(tmp_path), seed=3)
    assert torch.equal(asked[STEPS // 2][1], first), "its noise follows from the seed"
    with pytest.raises(ResipError, match="is a policy of peg_hole, not of one_leg"):
        make_agent(str(tmp_path), tasks.ONE_LEG, 0)


# ---- the video ----


def test_the_video_has_a_frame_for_every_state_and_the_cameras_side_by_side(short: None, tmp_path: Path):
    path = tmp_path / "episode.mp4"
    steps = play("peg_hole", "random", seed=5, out=path)
    frames = frames_of(path)
    assert len(frames) == steps + 1
    assert frames[0].shape == (TILE_HEIGHT_PX, 3 * TILE_WIDTH_PX, 3)
    assert np.abs(frames[-1].astype(int) - frames[0]).mean() > 0.5, "something moves"
    tiles = np.split(frames[0], 3, axis=1)
    assert all(tile.std() > 5 for tile in tiles)


def test_one_camera_is_enough_and_it_can_be_randomised(short: None, tmp_path: Path):
    videos = []
    for seed in (None, 1, 1, 2):
        path = tmp_path / "episode.mp4"
        play("peg_hole", "zero", seed=5, cameras=("overview",), out=path, visual_seed=seed)
        videos.append(frames_of(path)[0].astype(int))
    nominal, first, again, other = videos
    assert nominal.shape == (TILE_HEIGHT_PX, TILE_WIDTH_PX, 3)
    assert np.abs(first - again).mean() < 0.1, "the same but for what rasterising and compression round"
    assert min(np.abs(a - b).mean() for a, b in ((nominal, first), (first, other))) > 5


# ---- what base and residual want ----


def test_a_policy_on_states_does_what_it_does_in_an_evaluation(short: None, tmp_path: Path):
    run = write_residual_run(tmp_path / "run")
    played = make_agent(str(run), tasks.get("peg_hole"), seed=5)
    evaluated = load_teacher(run).agent(1)
    env = AssemblyEnv("peg_hole", threads=1)
    observation, _ = env.reset(seed=5)
    evaluated.start(LIVE == 0, [5])
    for _ in range(STEPS):
        action = played(env, observation, LIVE)
        np.testing.assert_array_equal(action, evaluated.act(observe(observation)).double().numpy())
        observation, *_ = env.step(action)
    with pytest.raises(ResipError, match="is a policy of peg_hole, not of one_leg"):
        make_agent(str(run), tasks.ONE_LEG, 0)


def test_the_residual_is_what_the_base_lacks_and_a_base_alone_has_none(short: None, tmp_path: Path):
    env = AssemblyEnv("peg_hole", threads=1)
    observation, _ = env.reset(seed=5)
    intents = []
    for run in (write_base_run(tmp_path / "base"), write_residual_run(tmp_path / "run")):
        agent = make_agent(str(run), tasks.get("peg_hole"), seed=5)
        assert isinstance(agent, TeacherAgent)
        action = agent(env, observation, LIVE)
        intents.append(agent.intent)
    alone, both = intents
    assert set(alone.motions()) == {"base"}
    np.testing.assert_allclose(alone.base, both.base, atol=1e-7)
    np.testing.assert_array_equal(both.net, action[0, :3])
    np.testing.assert_array_equal(both.fingertip, observation["robot_state"][0, :3])
    motions = both.motions()
    np.testing.assert_allclose(motions["base"] + motions["residual"], motions["net"], atol=1e-12)
    assert 1e-4 < np.linalg.norm(motions["residual"]) < 0.05


def test_a_point_is_projected_to_the_pixel_that_shows_it():
    replay = Replay(tasks.PEG_HOLE)
    poses = nominal_poses(tasks.PEG_HOLE)
    replay.pose(np.array(panda.RESET_RAD), 0.065, poses.ravel())
    peg = replay.model.body("peg").id
    with Renderer(replay.model) as renderer:
        for camera in ("front", "overview"):
            column, row = replay.view(camera).project(poses[0, :3]).astype(int)
            geom = renderer.segment(replay.data, camera)[row, column]
            assert geom >= 0
            assert replay.model.geom_bodyid[geom] == peg


RED, BLUE, GREEN = np.eye(3, dtype=bool)[[0, 2, 1]]


def painted(frame: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Pixels whose channel of ``colour`` stands out."""
    channels = frame.astype(int)
    return (channels[..., colour].min(-1) - channels[..., ~colour].max(-1)) > 60


def test_each_arrow_is_as_long_as_its_motion_at_one_scale_for_all_views():
    forward, left = np.array([0.02, 0.0, 0.0]), np.array([0.0, -0.01, 0.0])
    for distance_m in (0.1, 1.0):  # a camera that looks down, x to the right and y up in its picture
        view = View(spaces.Pose(np.array([0.5, 0.0, distance_m]), np.eye(3)), 450.0, 400, 300)
        fingertip = np.array([0.5, 0.0, 0.0])
        frame = draw(np.zeros((300, 400, 3), np.uint8), Intent(fingertip, fingertip + forward), view)
        assert not painted(frame, BLUE).any()
        assert not painted(frame, GREEN).any()
        columns = np.flatnonzero(painted(frame, RED).any(axis=0))
        assert (columns[0], columns[-1]) == pytest.approx((200, 200 + 20 * PX_PER_MM), abs=3)
        frame = draw(frame, Intent(fingertip, fingertip + forward, fingertip + forward + left), view)
        rows = np.flatnonzero(painted(frame, BLUE).any(axis=1))
        assert (rows[0], rows[-1]) == pytest.approx((150, 150 + 10 * PX_PER_MM), abs=3)
        assert painted(frame, GREEN)[: 150 + int(10 * PX_PER_MM) + 3].any()


def test_the_picture_shows_the_arrows_until_the_episode_is_over_and_one_of_them_is_kept(short: None, tmp_path: Path):
    run, path = write_residual_run(tmp_path / "run"), tmp_path / "episode.mp4"
    play("peg_hole", str(run), seed=5, cameras=("front",), out=path, show_residual=True, still=1)
    frames = frames_of(path)
    assert len(frames) == STEPS + 1
    strips = [frame[:-TILE_HEIGHT_PX] for frame in frames]
    assert all(painted(strip, RED).any() for strip in strips[:-1]), "the legend says how long each is"
    assert not painted(strips[-1], RED).any(), "nothing is wanted any more"
    assert painted(frames[0][-TILE_HEIGHT_PX:], RED).any()
    still = np.asarray(Image.open(tmp_path / "episode.png"))
    assert np.abs(still.astype(int) - frames[1]).mean() < 5, "but for compression"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agent": "zero", "show_residual": True}, "agent 'zero' has no base to show"),
        ({"agent": "zero", "still": STEPS + 1}, f"no still of step {STEPS + 1}: the episode ended after {STEPS}"),
        ({"agent": "zero", "still": 1, "out": None}, "drawn in a video: say where with --out"),
    ],
)
def test_what_cannot_be_drawn_is_named(short: None, tmp_path: Path, options: dict, message: str):
    with pytest.raises(ResipError, match=message):
        play("peg_hole", **{"out": tmp_path / "episode.mp4", "cameras": ("front",), **options})


# ---- the viewer ----


def test_without_a_display_the_viewer_is_refused_in_a_line(short: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("glfw.init", lambda: False)
    with pytest.raises(ResipError, match="needs a display and finds none"):
        play("peg_hole", "zero", viewer=True)


@pytest.mark.parametrize(("closed_after", "steps"), [(100, STEPS), (2, 1)])
def test_the_viewer_shows_every_state_until_it_is_closed(
    short: None, monkeypatch: pytest.MonkeyPatch, closed_after: int, steps: int
):
    shown = []

    @contextmanager
    def launch(model, data):
        yield SimpleNamespace(
            lock=Lock, sync=lambda: shown.append(data.qpos.copy()), is_running=lambda: len(shown) < closed_after
        )

    monkeypatch.setattr("glfw.init", lambda: True)
    monkeypatch.setattr(mujoco.viewer, "launch_passive", launch)
    assert play("peg_hole", "random", seed=5, viewer=True) == steps
    assert len(shown) == steps + 1
    assert np.ptp(shown, axis=0).max() > 1e-3


# ---- what cannot be played ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "chair"}, "unknown task 'chair'"),
        ({"agent": "nobody"}, "choose one, or from expert, random, zero"),
        ({"randomness": "huge"}, "unknown randomness of peg_hole 'huge'"),
        ({"cameras": ()}, "no camera to show: choose from front"),
        ({"visual_seed": -1}, "seed -1 of an appearance: at least 0"),
        ({"cameras": ("side",)}, "unknown camera 'side': choose from front, overview, wrist"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(options: dict, message: str):
    with pytest.raises(ResipError, match=message):
        play(**{"task": "peg_hole", "agent": "zero", **options})


def test_a_folder_that_is_no_checkpoint_and_a_video_without_a_folder_are_named(tmp_path: Path):
    with pytest.raises(ResipError, match="is not a training run"):
        play("peg_hole", str(tmp_path))
    with pytest.raises(ResipError, match="is no folder"):
        play("peg_hole", "zero", out=tmp_path / "none" / "episode.mp4")
