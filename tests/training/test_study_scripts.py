"""The scripts of rows and studies: which commands they give, and that they go on where they were stopped."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import tyro
from resip import cli

SCRIPTS = Path(__file__).parents[2] / "scripts"
#: Notes each command and leaves its file of figures; a command that has the word $FAIL is interrupted instead.
STAND_IN = """#!/usr/bin/env bash
echo "$*" >> commands
if [[ -n ${FAIL:-} && " $* " == *" $FAIL "* ]]; then exit 130; fi
while [[ $# -gt 0 ]]; do
  if [[ $1 == --out ]]; then mkdir -p "$2"; fi
  if [[ $1 == --json ]]; then echo '{}' > "$2"; fi
  shift
done
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    resip = tmp_path / "bin" / "resip"
    resip.write_text(STAND_IN)
    resip.chmod(0o755)
    return tmp_path


def commands(folder: Path, script: str, *arguments: str, status: int = 0, **environment: str) -> list[str]:
    """The commands that a script gives in this folder."""
    (folder / "commands").unlink(missing_ok=True)
    done = subprocess.run(
        [SCRIPTS / script, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "BIN": "bin", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    return (folder / "commands").read_text().splitlines()


def starts(given: list[str]) -> list[str]:
    """The first words of the commands."""
    return [
        " ".join(command.split()[: 2 if command.startswith(("train", "figure", "data")) else 1]) for command in given
    ]


def test_every_command_that_a_script_gives_has_these_options(folder: Path) -> None:
    given = [
        *commands(folder, "row.sh", "one_leg", "low", "mlp-c", "residual-offpolicy"),
        *commands(folder, "ablation.sh", "one_leg", "low", "dp", "residual-ppo"),
        *commands(folder, "study_teacher.sh", "one_leg", "low"),
        *commands(folder, "study_scaling.sh", "one_leg", "low"),
        *commands(folder, "study_coverage.sh", "data/rendered", "data/cell"),
    ]
    for command in given:
        words = command.split()
        name = next(name for n in (2, 1) if (name := " ".join(words[:n])) in cli.commands())
        tyro.cli(cli.commands()[name], args=words[len(name.split()) :])


def test_students_of_the_teacher_study_differ_in_their_data_alone(folder: Path) -> None:
    given = commands(folder, "study_teacher.sh", "one_leg", "low", ROLLOUTS="90", IMAGE_UPDATES="7")
    assert "rollout models/one_leg_teacher --episodes 90" in " ".join(given)
    distilled = [command.split(" --out")[0] for command in given if command.startswith("train distill")]
    assert distilled == [
        "train distill --sim data/images/one_leg-low-rollouts-90 --steps 7",
        "train distill --sim data/images/one_leg-low-demonstrations --steps 7",
    ]
    rendered = [command for command in given if command.startswith("render")]
    assert [command.split()[1] for command in rendered] == ["data/rollouts/one_leg-low-90", "data/states/one_leg-low"]
    assert all("--every never" in command for command in rendered)
    assert starts(given)[-1] == "figure teacher"
    assert {path.name for path in (folder / "docs/results/studies/one_leg-low").iterdir()} == {
        "teacher.json",
        "states-rollouts-90.json",
        "images-rollouts-90.json",
        "images-demonstrations.json",
    }


def test_a_student_is_drawn_for_each_number_of_rollouts(folder: Path) -> None:
    given = commands(folder, "study_scaling.sh", "peg_hole", "med", SIZES="5 10 20", TEACHER="runs/mine")
    assert [command for command in given if command.startswith("rollout")] == [
        f"rollout runs/mine --episodes {n} --randomness med --threads 1 --out data/rollouts/peg_hole-med-{n}"
        for n in (5, 10, 20)
    ]
    results = "docs/results/studies/peg_hole-med"
    files = " ".join(f"{results}/{name}.json" for name in ("teacher", *(f"states-rollouts-{n}" for n in (5, 10, 20))))
    assert given[-1] == f"figure scaling {files} --out docs/images/study_scaling_peg_hole-med.png"


def test_rollouts_that_are_pushed_off_their_way_have_names_of_their_own(folder: Path) -> None:
    pushed = {"DISTURB_M": "0.003"}
    given = [
        *commands(folder, "row.sh", "one_leg", "low", "dp", "residual-offpolicy", ROLLOUTS="9", **pushed),
        *commands(folder, "study_scaling.sh", "one_leg", "low", SIZES="5", **pushed),
        *commands(folder, "study_teacher.sh", "one_leg", "low", ROLLOUTS="5", **pushed),
    ]
    rollouts = [command for command in given if command.startswith("rollout")]
    assert all("--disturb-m 0.003 " in command and command.endswith("-disturbed") for command in rollouts)
    learned = {path.name for path in (folder / "docs/results/learned").iterdir()}
    assert learned == {"one_leg-low-dp-rollouts-9-disturbed-residual-offpolicy.json"}
    drawn = " ".join(command for command in given if command.startswith("figure"))
    assert drawn.count("states-rollouts-5-disturbed.json") == 2
    assert "images-rollouts-5-disturbed.json" in drawn


def test_a_study_that_was_stopped_goes_on_with_what_was_not_finished(folder: Path) -> None:
    study = ("study_scaling.sh", "peg_hole", "low")
    begun = commands(folder, *study, status=130, SIZES="5 10", FAIL="data/rollouts/peg_hole-low-10")
    assert starts(begun)[-2:] == ["evaluate", "rollout"]
    assert starts(commands(folder, *study, SIZES="5 10")) == [
        "rollout",
        "rollout",
        "train bc",
        "evaluate",
        "figure scaling",
    ]
    assert starts(commands(folder, *study, SIZES="5 10")) == ["rollout", "rollout", "figure scaling"]


def test_a_training_that_was_stopped_is_asked_for_again(folder: Path) -> None:
    study = ("study_scaling.sh", "peg_hole", "low")
    assert starts(commands(folder, *study, status=130, SIZES="5", FAIL="train"))[-1] == "train bc"
    assert starts(commands(folder, *study, SIZES="5")) == ["rollout", "train bc", "evaluate", "figure scaling"]


def test_both_studies_share_a_student(folder: Path) -> None:
    commands(folder, "study_teacher.sh", "one_leg", "low", ROLLOUTS="50")
    given = commands(folder, "study_scaling.sh", "one_leg", "low", SIZES="50 150")
    assert [command.split()[2] for command in given if command.startswith("train")] == ["data/rollouts/one_leg-low-150"]


def test_coverage_needs_two_sets(folder: Path) -> None:
    done = subprocess.run([SCRIPTS / "study_coverage.sh"], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "give two data sets: make study/coverage SIM=DIR REAL=DIR\n")


@pytest.mark.parametrize("script", ["row.sh", "ablation.sh"])
def test_a_row_that_is_not_fully_named_is_refused_in_a_line(folder: Path, script: str) -> None:
    done = subprocess.run([SCRIPTS / script, "one_leg"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("give task, level")
    assert done.stderr.count("\n") == 1


def test_a_row_trains_its_base_once(folder: Path) -> None:
    row = ("row.sh", "one_leg", "low", "dp", "residual-ppo")
    once = ["collect", "train bc", "train residual-ppo", "evaluate"]
    assert starts(commands(folder, *row)) == once
    assert starts(commands(folder, *row)) == once[2:]


def test_a_row_can_begin_with_a_teachers_rollouts_in_place_of_demonstrations(folder: Path) -> None:
    given = commands(folder, "row.sh", "one_leg", "low", "dp", "residual-offpolicy", ROLLOUTS="30")
    assert starts(given) == ["rollout", "train bc", "train residual-offpolicy", "evaluate"]
    rollout, clone, residual, _ = given
    assert rollout.startswith("rollout models/one_leg_teacher --episodes 30")
    data, base = "data/rollouts/one_leg-low-30", "runs/one_leg-low-dp-rollouts-30"
    assert rollout.endswith(f"--out {data}")
    assert clone == f"train bc {data} --policy dp --steps 12000 --out {base}"
    assert residual.startswith(f"train residual-offpolicy {base} --dataset {data} ")


def test_runs_of_an_ablation_differ_from_the_first_in_one_setting(folder: Path) -> None:
    given = commands(folder, "ablation.sh", "one_leg", "low", "dp", "residual-ppo", ALPHAS="0.3", CHUNKS="4")
    trained = [command for command in given if command.startswith("train residual-ppo")]
    first, alpha, chunk, blind = (command.replace("-chunk-4", "").split(" compact ")[1] for command in trained)
    assert (alpha, chunk, blind) == (f"{first} --alpha 0.3", first, f"{first} --no-sees-base-action")
    assert all("--steps 500000" in command for command in trained)
    assert len({command.split("--out ")[1].split()[0] for command in trained}) == 4
    bases = [command for command in given if command.startswith("train bc")]
    assert [command.split("--policy ")[1] for command in bases] == [
        "dp --out runs/one_leg-low-dp",
        "dp --action-horizon 4 --out runs/one_leg-low-dp-chunk-4",
    ]
