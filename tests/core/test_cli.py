"""The program `resip`: finding a command, and how it ends."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import resip
from resip import cli
from resip.errors import ResipError, UnknownNameError, check_name


@dataclass(frozen=True)
class Greet:
    """Say hello.

    And nothing else.
    """

    times: int = 1
    """How often."""

    def run(self) -> None:
        print("hello " * self.times)


@dataclass(frozen=True)
class Fail:
    """End badly."""

    how: str

    def run(self) -> None:
        raise {"expected": ResipError("no such bag\n  'x.mcap'"), "interrupt": KeyboardInterrupt()}[self.how]


@pytest.fixture(autouse=True)
def _commands(monkeypatch):
    monkeypatch.setattr(cli, "COMMANDS", {"greet": Greet, "test fail": Fail, "test greet": Greet})


@pytest.fixture
def resip_command(monkeypatch, capsys):
    """Run the program with the given words: exit status, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["resip", *words])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_command_runs_with_its_options(resip_command):
    assert resip_command("greet", "--times", "2") == (0, "hello hello \n", "")


def test_a_command_of_a_group_takes_two_words(resip_command):
    assert resip_command("test", "greet")[:2] == (0, "hello \n")


def test_an_error_that_a_user_can_mend_is_one_line_and_status_1(resip_command):
    assert resip_command("test", "fail", "--how", "expected") == (1, "", "resip: error: no such bag 'x.mcap'\n")


def test_an_interrupt_is_status_130_without_a_word(resip_command):
    assert resip_command("test", "fail", "--how", "interrupt") == (130, "", "")


def test_an_output_that_nobody_reads_any_more_ends_the_command_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "resip.cli"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_without_a_command_every_command_is_listed_with_its_first_line(resip_command, words):
    status, out, _ = resip_command(*words)

    assert status == 0
    assert re.search(r"^  greet +Say hello\.$", out, re.MULTILINE)
    assert re.search(r"^  test fail +End badly\.$", out, re.MULTILINE)
    assert "nothing else" not in out


def test_a_group_alone_lists_its_commands(resip_command):
    status, out, _ = resip_command("test")

    assert status == 0
    assert "test greet" in out
    assert "\n  greet" not in out


def test_an_unknown_command_names_the_nearest_and_all_choices(resip_command):
    status, _, err = resip_command("gret")

    assert status == 1
    assert err.startswith("resip: error: unknown command 'gret': did you mean 'greet'? choose from ")
    assert "test" in err
    assert err.count("\n") == 1


def test_an_unknown_command_of_a_group_names_the_groups_choices(resip_command):
    assert resip_command("test", "fall")[2] == (
        "resip: error: unknown test command 'fall': did you mean 'fail'? choose from fail, greet\n"
    )


def test_an_unknown_option_is_status_2_and_names_the_nearest(resip_command):
    status, out, err = resip_command("greet", "--tims", "2")

    assert status == 2
    assert "--times" in out + err


def test_the_version(resip_command):
    assert resip_command("--version") == (0, f"resip {resip.__version__}\n", "")


def test_a_commands_own_exit_status_is_the_programs(resip_command, monkeypatch):
    monkeypatch.setattr(Greet, "run", lambda self: 3)
    assert resip_command("greet") == (3, "", "")


def test_the_training_packages_commands_are_there():
    assert {"expert", "collect", "train bc", "evaluate", "export"} <= set(cli.commands())


def test_every_command_says_what_it_does_in_a_line():
    for name, command in cli.commands().items():
        first_line = (command.__doc__ or "").strip().partition("\n")[0]
        assert first_line.endswith("."), name


def test_help_loads_neither_torch_nor_ros_nor_a_simulator():
    code = (
        "import sys\n"
        "from resip import cli\n"
        "cli.run(['--help'])\n"
        "print([name for name in ('torch', 'rclpy', 'mujoco', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_program_is_on_the_environments_path():
    program = Path(sys.executable).parent / "resip"
    done = subprocess.run([program, "nonsense"], capture_output=True, text=True, check=False, env=os.environ)

    assert done.returncode == 1
    assert done.stderr.startswith("resip: error: unknown command 'nonsense'")


class TestGraphCommands:
    @pytest.fixture(autouse=True)
    def _commands(self, monkeypatch):
        monkeypatch.undo()

    @pytest.fixture
    def asked(self, monkeypatch):
        """What the graph and the trials were asked for."""
        asked = []
        monkeypatch.setattr("resip.process.up", lambda arguments: asked.append(arguments) or 0)
        monkeypatch.setattr("resip.trials.run.run_trials", lambda arguments, json: asked.append((arguments, json)))
        return asked

    def test_up_takes_the_launch_files_arguments(self, asked):
        cli.run(["up", "one_leg", "--robot", "polymetis", "--robot-ip", "10.0.0.2", "--front-serial", "1"])

        assert (asked[0].task, asked[0].robot, asked[0].robot_ip) == ("one_leg", "polymetis", "10.0.0.2")
        assert asked[0].trials == 0

    def test_trial_runs_one_unless_told_how_many(self, asked):
        cli.run(["trial", "one_leg"])
        cli.run(["trial", "one_leg", "--n", "10", "--seed", "4", "--json", "figures.json"])

        assert [(arguments.trials, arguments.seed, json) for arguments, json in asked] == [
            (1, 0, None),
            (10, 4, Path("figures.json")),
        ]

    @pytest.mark.parametrize("command", ["up", "trial"])
    def test_an_unknown_task_is_refused_with_the_tasks_there_are(self, command):
        with pytest.raises(UnknownNameError, match="unknown task 'one_lag': did you mean 'one_leg'\\?"):
            cli.run([command, "one_lag"])


class TestNames:
    def test_a_valid_name_passes(self):
        check_name("task", "one_leg", ["one_leg", "lamp"])

    def test_a_misspelt_name_gets_the_nearest(self):
        with pytest.raises(UnknownNameError, match="unknown task 'oneleg': did you mean 'one_leg'\\?"):
            check_name("task", "oneleg", ["one_leg", "lamp"])

    def test_a_name_unlike_any_gets_the_choices(self):
        with pytest.raises(UnknownNameError, match="unknown task 'xyz': choose from lamp, one_leg"):
            check_name("task", "xyz", ["one_leg", "lamp"])


@dataclass(frozen=True)
class Measure:
    """Measure something."""

    times: cli.Count = 1
    warm_ups: cli.Count | None = None
    json: Path | None = None

    def run(self) -> None:
        """Do it, into a file that is not there."""
        Path("no such folder/figures").read_text()


@pytest.fixture
def measure(monkeypatch, resip_command):
    monkeypatch.setattr(cli, "commands", lambda: {"measure": Measure})
    return lambda *options: resip_command("measure", *options)


def test_what_could_not_be_written_is_refused_before_the_work(measure, tmp_path):
    assert measure("--json", str(tmp_path / "none" / "figures.json")) == (
        1,
        "",
        f"resip: error: --json {tmp_path}/none/figures.json: {tmp_path}/none is not a folder that can be written to\n",
    )


def test_a_count_of_none_is_refused(measure):
    assert measure("--times", "0") == (1, "", "resip: error: --times is 1 or greater, got 0\n")
    assert measure("--warm-ups", "0") == (1, "", "resip: error: --warm-ups is 1 or greater, got 0\n")


def test_a_file_that_fails_is_named_in_a_line(measure):
    assert measure() == (1, "", "resip: error: no such folder/figures: No such file or directory\n")
