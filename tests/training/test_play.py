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
from resip import rotation, spaces
from resip.errors import ResipError
from resip_training import evaluate
from resip_training.agents import RandomAgent, zero_agent
from resip_training.play import TILE_HEIGHT_PX, TILE_WIDTH_PX, make_agent, play
from resip_training.sim import tasks
from resip_training.sim.env import AssemblyEnv

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

    monkeypatch.setattr(evaluate, "load", lambda path: (predict, "peg_hole", {"prediction": 8, "action": 2}))
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
