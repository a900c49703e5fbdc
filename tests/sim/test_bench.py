"""`resip bench`: what it measures, and what it says of simulators that cannot be run."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resip.errors import ResipError
from resip_training.bench import peer, sim, soak
from resip_training.bench.expert_run import ExpertRun
from resip_training.bench.figures import CpuClock, Figures
from resip_training.bench.peer import PEERS, PeerError, measure_peer
from resip_training.experts.rollout import EXPERTS

TASK = "peg_hole"  # the shortest
OF_A_PEER: dict[str, Any] = {
    "name": "NutAssemblyRound",
    "simulator": "robosuite",
    "actions": "random",
    "control_hz": 20,
    "timestep_s": 0.002,
    "worlds": 1,
    "simulated_s": 1.0,
    "steps_per_cpu_s": 100.0,
    "realtime_factor": 5.0,
    "contacts_mean": 4.0,
    "penetration_p99_m": 0.001,
    "penetration_max_m": 0.002,
}


@pytest.fixture
def one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim, "EXPERTS", {TASK: EXPERTS[TASK]})


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder for peers' programs, which this interpreter runs."""
    monkeypatch.setattr(peer, "_FOLDER", tmp_path)
    monkeypatch.setattr(peer, "_python", lambda name: Path(sys.executable))
    return tmp_path


@pytest.mark.usefixtures("one_task")
def test_each_task_with_an_expert_is_measured_beside_the_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, float]] = []

    def measured(name: str, seconds: float) -> Figures:
        asked.append((name, seconds))
        if name == PEERS[1]:
            raise PeerError("no wheel for this Python")
        return Figures(**OF_A_PEER)

    monkeypatch.setattr(sim, "measure_peer", measured)
    sim.bench_sim(seconds=0.6, worlds=2, peers=True, json_path=tmp_path / "bench.json")
    written = json.loads((tmp_path / "bench.json").read_text())
    (task,) = written["tasks"]
    figures = task["figures"]
    assert figures["name"] == TASK
    assert figures["simulated_s"] == pytest.approx(0.6)
    assert figures["realtime_factor"] == pytest.approx(figures["steps_per_cpu_s"] / figures["control_hz"])
    assert 0 < figures["penetration_p99_m"] <= figures["penetration_max_m"] < 0.005
    assert figures["contacts_mean"] >= 8, "two boxes on a table"
    assert sum(task["physics_shares"].values()) == pytest.approx(1.0)
    assert 0 < task["python_share"] < 1
    assert asked == [(name, 0.6) for name in PEERS]
    assert written["peers"] == [OF_A_PEER]
    assert written["could_not_run"] == {PEERS[1]: "no wheel for this Python"}
    printed = capsys.readouterr().out
    assert "NutAssemblyRound" in printed
    assert "could not run: no wheel" in printed


@pytest.mark.usefixtures("one_task")
def test_peers_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim, "measure_peer", lambda *_: pytest.fail("a peer was run"))
    assert sim.bench_sim(seconds=0.2, worlds=1, peers=False, json_path=None)["peers"] == []


def test_the_worlds_are_at_different_moments_of_their_episodes() -> None:
    run = ExpertRun(TASK, 4)
    run.stagger()
    assert len(np.unique(run.env.part_poses()[:, 0, :3], axis=0)) == 4
    assert run.resets >= 4 + 4, "all at first, and each at its moment"
    assert run.clock.seconds["physics"] < run.clock.seconds["step"]


def test_a_clock_adds_up_what_it_measures() -> None:
    clock = CpuClock()
    for _ in range(2):
        with clock.measure("sum"):
            sum(range(200_000))
    once = clock.seconds["sum"]
    with clock.measure("sum"):
        sum(range(200_000))
    assert clock.seconds["sum"] > once > 0


def test_a_peers_figures_are_the_last_line_that_it_prints(programs: Path) -> None:
    (programs / "other.py").write_text(f"print('hello')\nprint('''{json.dumps(OF_A_PEER)}''')")
    assert measure_peer("other", 1.0) == Figures(**OF_A_PEER)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise RuntimeError('no Vulkan device')", "other failed: RuntimeError: no Vulkan device"),
        ("print('done')", "other.py printed no figures"),
        ("print('{}')", "other.py printed no figures"),
        ("", "other.py printed no figures"),
    ],
    ids=["crash", "no json", "no fields", "silence"],
)
def test_a_peer_that_fails_is_told_in_a_line(programs: Path, program: str, reason: str) -> None:
    (programs / "other.py").write_text(program)
    with pytest.raises(PeerError, match=reason):
        measure_peer("other", 1.0)


def test_a_peer_sees_none_of_our_packages(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    (programs / "other.py").write_text("import os\nraise SystemExit(os.environ.get('PYTHONPATH', 'clean'))")
    with pytest.raises(PeerError, match="clean"):
        measure_peer("other", 1.0)


def test_an_environment_is_made_once_for_the_same_requirements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[str] = []

    def run(command: list[str], failure: str) -> str:
        commands.append(" ".join(command[1:4]))
        (tmp_path / "cache/resip/bench/other").mkdir(parents=True, exist_ok=True)
        return json.dumps(OF_A_PEER)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(peer, "_FOLDER", tmp_path)
    monkeypatch.setattr(peer, "_run", run)
    (tmp_path / "other.txt").write_text("robosuite==1.5.2\n")
    for _ in range(2):
        measure_peer("other", 1.0)
    installs = [command for command in commands if command == "-m pip install"]
    assert len(installs) == 1
    (tmp_path / "other.txt").write_text("robosuite==1.5.3\n")
    measure_peer("other", 1.0)
    assert commands.count("-m pip install") == 2
    assert "installing other" in capsys.readouterr().err


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_has_a_program_and_pinned_requirements(name: str) -> None:
    assert (peer._FOLDER / f"{name}.py").is_file()
    requirements = (peer._FOLDER / f"{name}.txt").read_text().split()
    assert all("==" in requirement for requirement in requirements)


def test_a_soak_reports_the_memory(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as other:  # this one holds what other tests have loaded
        figures = other.submit(soak.soak_sim, TASK, worlds=2, steps=40, json_path=tmp_path / "soak.json").result()
    assert json.loads((tmp_path / "soak.json").read_text()) == figures
    assert figures["control_steps"] == 40
    assert len(figures["resident_mb"]) == 10
    assert all(10 < resident < 2000 for resident in figures["resident_mb"])


def test_a_soak_that_takes_too_much_memory_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "_MOST_MB", 1.0)
    with pytest.raises(ResipError, match="more than 1 MB resident"):
        soak.soak_sim(TASK, worlds=1, steps=10, json_path=None)
