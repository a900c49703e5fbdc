"""`resip trial`: what it runs, prints and returns, with the graph's processes and the page replaced."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from resip import process
from resip.errors import ResipError
from resip.graph import GraphArguments
from resip.trials import records, report, run
from resip.trials.records import TrialSet
from trial_bags import compared_outcomes, outcome


@pytest.fixture
def graph_runs(monkeypatch, tmp_path):
    """Let the graph's processes leave these outcomes; the list tells with what each graph was started."""
    started = []

    def leave(*outcomes):
        def fake_run(nodes, foreground, log_file, params_file):
            (parameters,) = (dict(node.parameters) for node in nodes if node.name == foreground)
            started.append(parameters)
            directory = log_file.parent
            for one in outcomes:
                records.write_outcome(directory, one)
            settings = run.settings_of(arguments(directory, n=parameters["n"], policy=parameters["policy"]))
            records.write_set(TrialSet(directory, settings, tuple(outcomes)))
            return 0

        def fake_report(directories):
            page = directories[0] / report.REPORT_FILE
            page.write_text("the page")
            return page

        monkeypatch.setattr(process, "run", fake_run)
        monkeypatch.setattr(report, "write_report", fake_report)
        return started

    return leave


def arguments(directory, n=1, policy="models/one_leg"):
    return GraphArguments(task="one_leg", policy=policy, trials=n, record=str(directory))


def test_it_prints_the_outcome_and_the_report_and_writes_the_figures(graph_runs, tmp_path, capsys):
    graph_runs(outcome(0), outcome(1, "failure", "time limit of 70 s"))

    page = run.run_trials(arguments(tmp_path / "set", n=2), tmp_path / "f.json")

    assert page == tmp_path / "set" / "report.html"
    printed = capsys.readouterr().out
    assert "one_leg: 1/2 (50%, 95 % interval 9% to 91%)" in printed
    assert f"report: {page}" in printed
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["success"]["k"], figures["success"]["n"], figures["settings"]["seed"]) == (1, 2, 0)


def test_an_aborted_trial_is_an_error_with_its_reason_and_has_a_report_all_the_same(graph_runs, tmp_path):
    graph_runs(outcome(0, "aborted", "could not arm the robot: the brake is on"))
    with pytest.raises(run.AbortedError, match="trial 1 was aborted: could not arm the robot: the brake is on"):
        run.run_trials(arguments(tmp_path / "set"))
    assert (tmp_path / "set" / "report.html").is_file()


def test_trials_that_never_ran_are_an_error(graph_runs, tmp_path):
    graph_runs(outcome(0))
    with pytest.raises(run.AbortedError, match="1 of 3 trials ran"):
        run.run_trials(arguments(tmp_path / "set", n=3))


def test_a_finished_set_starts_no_graph(graph_runs, tmp_path):
    started = graph_runs(outcome(0))
    run.run_trials(arguments(tmp_path / "set"))
    run.run_trials(arguments(tmp_path / "set"))
    assert len(started) == 1


def test_without_a_directory_of_its_own_every_call_makes_a_new_one(graph_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    started = graph_runs(outcome(0))
    page = run.run_trials(replace(arguments(""), record=GraphArguments().record))
    assert started[0]["out_dir"].startswith("trials/one_leg_")
    assert page.parent.parent.name == "trials"


def test_the_trial_node_gets_the_settings_that_are_checked(graph_runs, tmp_path):
    started = graph_runs(outcome(0))
    asked = arguments(tmp_path / "set")
    run.run_trials(asked)
    settings = vars(run.settings_of(asked))
    assert {key: started[0][key] for key in settings} == settings


def test_two_policies_are_told_apart_in_a_line(graph_runs, tmp_path, capsys):
    graph_runs(*compared_outcomes([(True, False)] * 6))
    run.run_trials(arguments(tmp_path / "set", n=6, policy="a=x,b=y"))
    printed = capsys.readouterr().out
    assert "a: 6/6 (100%" in printed
    assert "b: 0/6 (0%" in printed
    assert "a and b: a is better (p = 0.031)" in printed


def test_a_blind_evaluation_is_not_told_of_before_its_end(graph_runs, tmp_path, capsys):
    graph_runs(*compared_outcomes([(True, False)] * 6)[:7])
    with pytest.raises(run.AbortedError, match=f"7 of 12 trials ran; the same command with --record {tmp_path}"):
        run.run_trials(arguments(tmp_path / "set", n=6, policy="a=x,b=y"))
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "set" / "report.html").exists()


def test_a_protocol_file_is_a_set_of_its_own(graph_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ab.yaml").write_text("task: one_leg\npolicies: {a: x, b: y}\nn: 1\n")
    started = graph_runs(*compared_outcomes([(True, False)]))
    for _ in range(2):
        page = run.run_trials(GraphArguments(task="evaluate", protocol="ab.yaml"))
    assert len(started) == 1
    assert page == Path("trials/ab/report.html")


def test_no_trial_is_refused(tmp_path):
    with pytest.raises(ResipError, match="0 trials: ask for at least 1"):
        run.run_trials(arguments(tmp_path, n=0))
