"""The page of training runs: what is read, what belongs together, what is said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resip import cli
from resip.errors import ResipError
from resip.trials import records as trial_records
from resip.trials.statistics import Success
from resip_training import paper
from resip_training.report.page import differing, holds_runs, write_report
from resip_training.report.records import read_runs
from resip_training.runs import CONFIG_FILE, METRICS_FILE
from tiny_runs import write_base_run, write_residual_run
from torch.utils.tensorboard import SummaryWriter

STEPS = (1000, 2000, 3000)


def log(run: Path, tag: str, values: tuple[float, ...], steps: tuple[int, ...] = STEPS) -> None:
    with SummaryWriter(str(run / "tensorboard")) as writer:
        for step, value in zip(steps, values, strict=True):
            writer.add_scalar(tag, value, step)


def evaluated(run: Path, k: int, base_k: int | None = None, **changes: Any) -> None:
    """Leave an evaluation with ``k`` of 20 successes, and ``base_k`` of the base alone."""

    def success(k: int) -> dict[str, Any]:
        return Success.of([i < k for i in range(20)], range(500, 520)).as_json()

    pair = {} if base_k is None else {"base_success": success(base_k)}
    counts = {} if base_k is None else {"only_base_succeeds": 1, "only_with_residual_succeeds": k - base_k + 1}
    figures = {
        "task": "peg_hole",
        "randomness": "low",
        "sha256": "a" * 64,
        "success": success(k),
        "steps_of_a_success": 70.0,
        "settings": {"simulator": "mujoco 4.0.0", "timestep_s": 0.002},
        "wall_s": 12.0,
        "machine": "2 cores",
        "command": "resip evaluate <RUN>",
        **pair,
        **counts,
        **changes,
    }
    (run / f"evaluation_{figures['randomness']}_500_20.json").write_text(json.dumps(figures))


def residual_run(path: Path, seed: int = 0, **changes: Any) -> Path:
    run = write_residual_run(path, seed, validation_episodes=50, **changes)
    log(run, "validation/success", (0.5, 0.9, 0.8))
    log(run, "validation/success/base", (0.6, 0.6, 0.6))
    log(run, "validation/improved", (0.0, 1.0, 0.0))
    log(run, "kl", (0.01, 0.02, 0.03))
    log(run, "temperature", (3.0, 2.0, 1.0))
    (run / METRICS_FILE).write_text(json.dumps({"steps": 3000, "minutes": 0.5, "threads": 1, "machine": "2 cores"}))
    return run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base, a residual on it with two seeds, and one with another alpha."""
    folder = tmp_path_factory.mktemp("runs")
    base = write_base_run(folder / "base")
    log(base, "loss", (0.3, 0.2, 0.1), (10, 20, 30))
    evaluated(base, 12)
    runs = [
        base,
        residual_run(folder / "ppo_0"),
        residual_run(folder / "ppo_1", 1),
        residual_run(folder / "big", alpha=0.3),
    ]
    evaluated(runs[1], 19, base_k=12)
    return runs


@pytest.fixture(scope="module")
def page(folders: list[Path]) -> str:
    return write_report(folders).read_text()


def text_of(page: str) -> str:
    """What a reader sees of it."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


# ---- what is read ----


def test_a_runs_method_is_named_as_the_paper_names_it(folders: list[Path]):
    runs = read_runs(folders)
    assert [run.method for run in runs] == ["MLP-C", *["MLP-C + Residual PPO"] * 3]
    assert [run.unit for run in runs] == ["updates", *["control steps"] * 3]
    assert {(run.task, run.randomness) for run in runs} == {("peg_hole", "low")}


def test_table_1_is_the_papers():
    assert paper.TABLE_1["DP + Residual PPO", "one_leg", "low"] == 95
    assert paper.TABLE_1["DP + IDQL", "round_table", "med"] == 3
    assert paper.TABLE_1["MLP-C + PPO", "lamp", "low"] == 32
    assert len(paper.TABLE_1) == 6 * 6
    assert ("DP", "peg_hole", "low") not in paper.TABLE_1


def test_what_a_crashed_run_did_after_its_last_save_is_not_drawn_twice(tmp_path: Path):
    run = write_base_run(tmp_path / "run")
    log(run, "loss", (0.4, 0.3, 9.0, 9.0), (10, 20, 30, 40))
    log(run, "loss", (0.2, 0.1), (30, 50))
    curve = read_runs([run])[0].curves["loss"]
    np.testing.assert_allclose(curve.steps, [10, 20, 30, 50])
    np.testing.assert_allclose(curve.values, [0.4, 0.3, 0.2, 0.1], rtol=1e-6)


def test_long_curves_are_thinned_by_averaging(tmp_path: Path):
    run = write_base_run(tmp_path / "run")
    log(run, "loss", tuple(float(i % 2) for i in range(2400)), tuple(range(2400)))
    curve = read_runs([run])[0].curves["loss"]
    assert len(curve.steps) < 200
    np.testing.assert_allclose(curve.values, 0.5, atol=0.06)


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path):
    runs = [write_base_run(tmp_path / "a" / "run"), write_base_run(tmp_path / "b" / "run")]
    assert [run.name for run in read_runs(runs)] == [str(path) for path in runs]


# ---- the page ----


def test_it_loads_nothing_from_anywhere(page: str):
    references = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert [r for r in references if not r.startswith(("data:", "#"))] == []
    assert re.findall(r"url\((?!#|\")", page) == []
    assert "<script" not in page


def test_success_stands_beside_the_bases_and_the_papers(page: str, tmp_path: Path):
    text = text_of(page)
    low, high = (round(100 * end) for end in Success.of([True] * 19 + [False], range(20)).interval)
    assert f"ppo_0 MLP-C + Residual PPO peg_hole, low 19 of 20 95 % {low} % to {high} %" in text
    assert "ppo_0 MLP-C alone peg_hole, low 12 of 20 60 %" in text
    assert "8 seeds succeed only with what was learned, 1 only without it" in text
    assert "resip evaluate &lt;RUN&gt;" in page

    run = write_base_run(tmp_path / "run")
    evaluated(run, 9, task="one_leg", randomness="med")
    text = text_of(write_report([run]).read_text())
    assert "one_leg, med trained at low 9 of 20 45 %" in text
    assert re.search(r"26 % to 66 % 10 % 500-519", text), "the paper's MLP-C: 10 %"


def test_seeds_of_one_algorithm_are_one_curve_and_other_settings_another(page: str):
    assert "MLP-C + Residual PPO: ppo_0, ppo_1 (2 seeds, thick: their mean)" in page
    assert "MLP-C + Residual PPO: big<" in page
    for title in ("success in validation (%), base alone dotted", "training loss", "KL divergence", "temperature"):
        assert title in page
    assert page.count(">updates<") >= 1 <= page.count(">control steps<")


def test_validations_say_where_the_residual_is_worse_than_its_base_and_which_is_best(page: str):
    text = text_of(page)
    assert "ppo_0, 50 episodes each, on the same seeds" in text
    assert "1 000 30 25 -5 2 000 30 45 +15 best 3 000 30 40 +10" in text


def test_time_data_base_and_settings_are_there(page: str):
    text = text_of(page)
    assert "ppo_1 3 000 control steps 0.5 100 control steps/s 1 2 cores" in text
    assert "5 of peg_hole (low) by the expert, 300 steps, seeds 1-3, 7" in text
    assert "MLP-C, runs/base" in text
    assert "alpha &ndash; 0.1 0.1 0.3" in text or "alpha – 0.1 0.1 0.3" in text
    assert "where the runs differ" in text


def test_only_settings_that_differ_where_both_have_them_are_told_apart():
    settings = {"a": {"rate": 0.1, "width": 3, "own": 1}, "b": {"rate": 0.2, "width": 3}, "c": {"rate": 0.1}}
    assert differing(settings) == {"rate": {"a": 0.1, "b": 0.2, "c": 0.1}}


def test_a_run_that_has_only_begun_makes_a_page(tmp_path: Path):
    text = text_of(write_report([write_base_run(tmp_path / "run")], tmp_path / "page.html").read_text())
    assert "Nothing evaluated yet" in text
    assert "No TensorBoard files" in text
    assert "nothing saved yet" in text


# ---- the command ----


def test_the_command_is_the_one_of_trials_and_takes_runs_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert issubclass(cli.commands()["report"], cli.Report)
    run, page = write_base_run(tmp_path / "run"), tmp_path / "page.html"
    assert cli.run(["report", str(run), "--out", str(page)]) == 0
    assert f"report: {page}" in capsys.readouterr().out
    assert "MLP-C on peg_hole" in page.read_text()


def test_folders_of_neither_kind_or_of_both_are_refused(tmp_path: Path):
    run, trials = write_base_run(tmp_path / "run"), tmp_path / "trials"
    trials.mkdir()
    with pytest.raises(ResipError, match=r"trials holds neither trials \(trials.json\) nor a training run"):
        holds_runs([run, trials])
    (trials / trial_records.SET_FILE).write_text("{}")
    assert not holds_runs([trials])
    assert holds_runs([run])
    with pytest.raises(ResipError, match=r"run is a training run and .*trials holds trials: a report shows one kind"):
        holds_runs([run, trials])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"success": {"k": 1}}'])
def test_a_damaged_evaluation_is_named(tmp_path: Path, text: str):
    run = write_base_run(tmp_path / "run")
    (run / "evaluation_low_0_1.json").write_text(text)
    with pytest.raises(ResipError, match=r"evaluation_low_0_1.json is not a file of `resip evaluate`"):
        write_report([run])


def test_a_damaged_configuration_is_named(tmp_path: Path):
    run = write_base_run(tmp_path / "run")
    (run / CONFIG_FILE).write_text("{")
    with pytest.raises(ResipError, match=r"config.json is damaged"):
        write_report([run])
