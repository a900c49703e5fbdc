"""Rollouts as a data set: what is kept of an episode, and a success that interrupts and shards leave as it is."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from resip import spaces
from resip.errors import ResipError
from resip_training.data.info import describe
from resip_training.data.salvage import salvage
from resip_training.data.store import DemoSet, DemoWriter, provenance_of, success_of_rollouts
from resip_training.experts import motion, peg_hole
from resip_training.rollout import record
from resip_training.rollout.record import rollout
from resip_training.shards import Shard
from resip_training.sim import snapshots, tasks
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.task import Task
from tiny_runs import write_base_run, write_residual_run
from torch import Tensor
from zarr.storage import LocalStore

SEEDS = range(2_000_000, 2_000_007)
FAILING = {2_000_001, 2_000_004}
MAX_STEPS = 110  # the expert needs some 80
NUMBERS = ("robot_state", "part_poses", "action", "reward", "joint_positions")


class ExpertTeacher:
    """Acts as the expert of peg_hole, but for the seeds that are to fail, where it stays at its place."""

    task, randomness, learned = "peg_hole", "low", None

    def sha256(self) -> str:
        return "e" * 64

    def agent(self, num_envs: int) -> ExpertTeacher:
        self._fails = np.zeros(num_envs, dtype=bool)
        return self

    def start(self, mask: np.ndarray, seeds: Sequence[int | None]) -> None:
        for i in np.flatnonzero(mask):
            self._fails[i] = seeds[i] in FAILING

    def act(self, observation: Tensor) -> Tensor:
        states, parts = observation.double().numpy()[:, :16], observation.double().numpy()[:, 16:]
        actions = np.concatenate([states[:, :9], np.full((len(states), 1), spaces.GRIPPER_OPEN)], axis=1)
        for i in np.flatnonzero(~self._fails):
            actions[i] = peg_hole.act(motion.unpack(states[i], parts[i], tasks.PEG_HOLE.part_names))
        return torch.from_numpy(actions)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Task:
    changed = replace(tasks.PEG_HOLE, max_steps=MAX_STEPS)
    monkeypatch.setattr(tasks, "get", lambda name: changed)
    return changed


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a teacher that succeeds."""
    monkeypatch.setattr(record, "load_teacher", lambda folder, device: ExpertTeacher())
    return write_base_run(tmp_path / "teacher")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process records of all seeds."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "load_teacher", lambda folder, device: ExpertTeacher())
        patch.setattr(tasks, "get", lambda name: replace(tasks.PEG_HOLE, max_steps=MAX_STEPS))
        rollout(write_base_run(folder / "teacher"), folder / "set", SEEDS, worlds=3, json_path=folder / "figures.json")
    return folder / "set"


def by_seed(path: Path) -> dict[int, dict[str, np.ndarray]]:
    demos = DemoSet(path)
    return {
        int(seed): {name: getattr(demos, name)[rows] for name in NUMBERS}
        for seed, rows in zip(demos.seeds, demos.episodes, strict=True)
    }


def assert_same(one: Path, other: Path) -> None:
    """The same episodes, in whatever order they ended, and the same failures."""
    assert success_of_rollouts(one) == success_of_rollouts(other)
    first, second = by_seed(one), by_seed(other)
    assert first.keys() == second.keys()
    for seed, arrays in first.items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(second[seed][name], values, err_msg=f"{seed} {name}")


# ---- what is kept ----


def test_successes_are_kept_up_to_the_step_of_success_and_failures_are_counted(whole: Path):
    demos, figures = DemoSet(whole, task="peg_hole"), json.loads((whole.parent / "figures.json").read_text())
    assert set(demos.seeds.tolist()) == set(SEEDS) - FAILING
    assert demos.success.all()
    for rows in demos.episodes:
        assert rows.stop - rows.start < MAX_STEPS
        assert np.flatnonzero(demos.reward[rows]).tolist() == [rows.stop - rows.start - 1], "and none follows"
    assert (figures["success"]["n"], figures["success"]["k"]) == (7, 5)
    assert figures["success"]["seeds"] == list(SEEDS)
    assert figures["success"] == success_of_rollouts(whole).as_json() == describe(demos)["rollouts"]
    assert not demos.has_images


def test_a_row_has_what_was_seen_before_its_action_and_the_state_that_leads_to_the_next(whole: Path):
    demos = DemoSet(whole)
    env = AssemblyEnv("peg_hole", 1, threads=1)
    snapshots.check(demos.provenance["simulator"]["world"], env.worlds.snapshot(), demos.path)
    for step in (0, 30):
        env.worlds.restore(snapshots.unflatten(demos.world[[step]], env.worlds.snapshot()), np.array([True]))
        np.testing.assert_array_equal(env.robot_state()[0].astype(np.float32), demos.robot_state[step])
        np.testing.assert_array_equal(env.part_poses()[0].ravel().astype(np.float32), demos.part_poses[step])
        env.step(demos.action[[step]].astype(float))
        np.testing.assert_allclose(env.robot_state()[0], demos.robot_state[step + 1], atol=1e-4)


def test_failures_are_kept_where_asked_for_and_marked(teacher: Path, tmp_path: Path):
    figures = rollout(teacher, tmp_path / "set", SEEDS[:3], keep_failures=True)
    demos = DemoSet(tmp_path / "set")
    outcomes = dict(zip(demos.seeds.tolist(), demos.success.tolist(), strict=True))
    assert outcomes == {seed: seed not in FAILING for seed in SEEDS[:3]}
    assert (figures["success"]["n"], figures["success"]["k"]) == (3, 2)


def test_the_set_says_who_acted_and_the_figures_are_written(teacher: Path, tmp_path: Path):
    figures = rollout(teacher, tmp_path / "set", SEEDS[:1], json_path=tmp_path / "figures.json")
    acted = DemoSet(tmp_path / "set").provenance["rollout"]
    assert (acted["checkpoint"], acted["algorithm"], acted["sha256"]) == ("teacher", "bc", "e" * 64)
    assert DemoSet(tmp_path / "set").provenance["source"] == "teacher"
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert figures["settings"]["timestep_s"] == tasks.PEG_HOLE.timestep_s


@pytest.mark.parametrize("write", [write_base_run, write_residual_run])
def test_an_episode_is_the_same_to_the_bit_whichever_run_beside_it(
    write, short: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """These policies know nothing: their hands wander until the time is over."""
    monkeypatch.setattr(tasks, "get", lambda name: replace(short, max_steps=25))
    run = write(tmp_path / "run")
    for worlds in (1, 3):
        rollout(run, tmp_path / f"{worlds}", SEEDS[:4], worlds=worlds, keep_failures=True)
    assert_same(tmp_path / "1", tmp_path / "3")


# ---- pushed off its way ----


def test_a_disturbed_set_has_the_policys_own_actions_and_where_the_pushes_led(
    teacher: Path, whole: Path, tmp_path: Path
):
    rollout(teacher, tmp_path / "set", SEEDS[:1], disturb_m=0.003, keep_failures=True)
    pushed, calm = DemoSet(tmp_path / "set"), by_seed(whole)[SEEDS[0]]
    np.testing.assert_array_equal(pushed.action[0], calm["action"][0], err_msg="the policy is asked before the push")
    asked_m = np.linalg.norm(pushed.robot_state[1:30, :3] - calm["robot_state"][1:30, :3], axis=1)
    assert 1e-4 < asked_m.max() < 0.05
    for step in (0, 10):  # the policy answers to where the hand is, not to where it would have been
        seen = torch.from_numpy(np.concatenate([pushed.robot_state[step], pushed.part_poses[step]])[None])
        agent = ExpertTeacher().agent(1)
        np.testing.assert_allclose(agent.act(seen)[0], pushed.action[step], atol=1e-5)
    assert pushed.provenance["rollout"]["disturbed_m"] == 0.003


def test_a_disturbed_episode_is_the_same_whichever_run_beside_it(teacher: Path, tmp_path: Path):
    for worlds in (1, 3):
        rollout(teacher, tmp_path / f"{worlds}", SEEDS[:4], worlds=worlds, keep_failures=True, disturb_m=0.003)
    assert_same(tmp_path / "1", tmp_path / "3")


# ---- interrupts ----


@pytest.mark.parametrize("step", [0, 130])
def test_an_interrupted_command_goes_on_where_it_was(
    teacher: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
):
    steps, begun = iter(range(10_000)), []
    go_on, start = AssemblyEnv.step, AssemblyEnv.reset

    def interrupted(env: AssemblyEnv, actions):
        if next(steps) == step:
            raise KeyboardInterrupt
        return go_on(env, actions)

    def noted(env: AssemblyEnv, *, seed, options):
        begun.extend(np.array(seed)[options["reset_mask"]].tolist())
        return start(env, seed=seed, options=options)

    with monkeypatch.context() as patch:
        patch.setattr(AssemblyEnv, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rollout(teacher, tmp_path / "again", SEEDS, worlds=3)
    landed = DemoWriter(tmp_path / "again", provenance_of(DemoSet(whole).provenance)).outcomes.keys()
    monkeypatch.setattr(AssemblyEnv, "reset", noted)
    rollout(teacher, tmp_path / "again", SEEDS, worlds=2)
    assert_same(tmp_path / "again", whole)
    assert sorted(begun) == sorted(set(SEEDS) - landed), "nothing is repeated"


def test_more_episodes_are_added_to_those_that_are_there(teacher: Path, tmp_path: Path):
    rollout(teacher, tmp_path / "set", SEEDS[:2])
    figures = rollout(teacher, tmp_path / "set", SEEDS[:4])
    assert figures["success"]["seeds"] == list(SEEDS[:4])


def test_a_full_disk_loses_no_outcome_that_is_there(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "set"
    rollout(teacher, path, SEEDS[:1])
    write, left = LocalStore.set, iter(range(1))

    async def limited(store: LocalStore, key: str, value) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await write(store, key, value)

    with monkeypatch.context() as full:
        full.setattr(LocalStore, "set", limited)
        with pytest.raises(ResipError, match=r"\(No space left on device\): its 1 demonstrations are whole; make room"):
            rollout(teacher, path, SEEDS[:2])
    assert success_of_rollouts(path).n == 1
    assert rollout(teacher, path, SEEDS[:2])["success"]["n"] == 2


# ---- shards ----


def test_shards_together_are_what_one_process_runs(
    teacher: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        rollout(teacher, tmp_path / "shards", SEEDS, shard=Shard.asked_for(None))
    assert_same(tmp_path / "shards", whole)
    assert set(DemoSet(tmp_path / "shards" / "shard-2-of-2").seeds.tolist()) == {2_000_003, 2_000_005}


def test_a_shard_without_a_seed_is_empty_and_all_together_are_no_shard(teacher: Path, tmp_path: Path):
    for index in (1, 2):
        rollout(teacher, tmp_path / "set", SEEDS[:1], shard=Shard(index, 2))
    assert DemoSet(tmp_path / "set").n_episodes == 1
    with pytest.raises(ResipError, match="set holds shards: go on with the --shard or the launcher that began them"):
        rollout(teacher, tmp_path / "set", SEEDS[:1])


def test_processes_of_a_launcher_have_a_shard_each(monkeypatch: pytest.MonkeyPatch):
    assert Shard.asked_for(None) is None
    assert Shard.asked_for("2/3") == Shard(2, 3)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Shard.asked_for(None) == Shard(3, 4)
    with pytest.raises(ResipError, match="launcher's 4 processes"):
        Shard.asked_for("2/3")


# ---- what is refused ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"randomness": "med"}, "randomness = 'low', not 'med'"),
        ({"keep_failures": True}, "failures_kept = False"),
        ({"disturb_m": 0.003}, r"disturbed_m = 0\.0, not 0\.003"),
    ],
)
def test_a_set_of_other_settings_is_not_continued(teacher: Path, tmp_path: Path, change: dict, message: str):
    rollout(teacher, tmp_path / "set", SEEDS[:1])
    with pytest.raises(ResipError, match=message):
        rollout(teacher, tmp_path / "set", SEEDS, **change)


def test_another_teacher_does_not_go_on_with_a_set(tmp_path: Path, short: Task, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tasks, "get", lambda name: replace(short, max_steps=2))
    for seed in (0, 1):
        write_base_run(tmp_path / f"{seed}" / "teacher", seed)
    rollout(tmp_path / "0" / "teacher", tmp_path / "set", SEEDS[:1])
    with pytest.raises(ResipError, match=r"rollout\.sha256"):
        rollout(tmp_path / "1" / "teacher", tmp_path / "set", SEEDS)


def test_what_is_no_run_or_no_set_is_named(tmp_path: Path):
    with pytest.raises(ResipError, match="nothing is not a training run"):
        rollout(tmp_path / "nothing", tmp_path / "set", SEEDS)
    run = write_base_run(tmp_path / "run")
    with pytest.raises(ResipError, match="run is not a demonstration data set"):
        rollout(run, run, SEEDS)


def test_damage_to_the_failures_is_found_and_the_same_command_mends_what_is_salvaged(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rollout(teacher, tmp_path / "set", SEEDS[:3])
    (chunk,) = (file for file in (tmp_path / "set" / "failed" / "c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(ResipError, match="set is damaged, failed cannot be read"):
        rollout(teacher, tmp_path / "set", SEEDS[:3])
    salvage(tmp_path / "set", tmp_path / "whole")
    assert "lost: which rollouts failed" in capsys.readouterr().out
    assert rollout(teacher, tmp_path / "whole", SEEDS[:3])["success"]["n"] == 3
    salvage(tmp_path / "whole", tmp_path / "copy")
    assert success_of_rollouts(tmp_path / "copy") == success_of_rollouts(tmp_path / "whole")
