"""The files of a set of trials, and the page made from them."""

import base64
import io
import json
import re
from dataclasses import replace

import av
import numpy as np
import pytest
from resip.trials import records, report, video
from resip.trials.records import RecordError
from trial_bags import compared_outcomes, outcome, write_trials

STAGES = [
    {"name": "place the top", "start_s": 0.0, "end_s": 3.0},
    {"name": "pick the leg", "start_s": 3.0, "end_s": 4.0},
]


def write_a_set(directory):
    outcomes = [
        outcome(0, stages=STAGES, ticks=40, missed_ticks=1, tick_rate_hz=10.0),
        outcome(1, "failure", "part left the table: <leg4>"),
        outcome(2, "aborted", "could not arm the robot: no server", duration_s=0.0),
    ]
    write_trials(directory, outcomes)
    return directory


@pytest.fixture
def directory(tmp_path):
    return write_a_set(tmp_path / "set")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of the set, made once: the tests that only read it share it."""
    return report.write_report([write_a_set(tmp_path_factory.mktemp("set"))]).read_text()


def videos_of(page):
    return [base64.b64decode(data) for data in re.findall(r'src="data:video/mp4;base64,([^"]+)"', page)]


class TestRecords:
    def test_a_set_is_read_as_it_was_written(self, directory):
        trials = records.read_set(directory)
        assert trials.outcomes[0] == outcome(0, stages=STAGES, ticks=40, missed_ticks=1, tick_rate_hz=10.0)
        assert trials.settings.task == "one_leg"

    def test_the_summary_counts_judged_trials_only_and_says_how_many_were_aborted(self, directory):
        summary = json.loads((directory / records.SET_FILE).read_text())
        assert {key: summary["success"][key] for key in ("n", "k", "rate", "seeds")} == {
            "n": 2,
            "k": 1,
            "rate": 0.5,
            "seeds": [0, 1],
        }
        assert (summary["aborted"], summary["missed_ticks"]) == (1, 1)
        assert summary["rtf"] == pytest.approx(0.9)

    def test_a_resumed_set_runs_what_was_not_judged(self, directory):
        settings = replace(records.read_set(directory).settings, n=5)
        assert [slot.index for slot in records.resume(directory, settings).left] == [2, 3, 4]

    def test_a_trial_that_was_killed_left_no_outcome_and_is_run_again(self, directory):
        (records.trial_directory(directory, 0) / records.OUTCOME_FILE).unlink()
        assert [slot.index for slot in records.resume(directory, records.read_set(directory).settings).left] == [0, 2]

    def test_a_set_is_not_resumed_with_other_settings(self, directory):
        settings = replace(records.read_set(directory).settings, randomness="med")
        with pytest.raises(RecordError, match="other settings: randomness was low, is med: name another one"):
            records.resume(directory, settings)

    def test_a_fresh_directory_has_everything_to_run(self, directory, tmp_path):
        fresh = records.resume(tmp_path / "new", records.read_set(directory).settings)
        assert [slot.index for slot in fresh.left] == [0, 1, 2]

    def test_a_directory_without_trials_is_an_error_that_names_it(self, tmp_path):
        with pytest.raises(
            RecordError, match=f"no trials in {tmp_path}: expected a directory that `resip trial` wrote"
        ):
            report.write_report([tmp_path])

    def test_a_damaged_file_is_named(self, directory):
        (directory / records.SET_FILE).write_text("{")
        with pytest.raises(RecordError, match=r"cannot read .*trials\.json"):
            records.read_set(directory)

    def test_a_file_of_something_else_is_named(self, directory):
        (directory / records.SET_FILE).write_text('{"trials": []}')
        with pytest.raises(RecordError, match=r"trials\.json is not a file of trials: 'settings'"):
            records.read_set(directory)


class TestEvaluation:
    """A set in which two policies take turns."""

    @pytest.fixture
    def write(self, tmp_path):
        def write_set(successes, **settings):
            return write_trials(tmp_path / "ab", compared_outcomes(successes), policy="a=x,b=y", **settings)

        return write_set

    def test_each_policy_has_its_own_figures(self, write):
        trials = write([(True, False)] * 7 + [(False, True)])
        assert {name: (figure.k, figure.n) for name, figure in trials.successes.items()} == {"a": (7, 8), "b": (1, 8)}
        assert {mark: figure.k for mark, figure in trials.reached["b"].items()} == {
            "corner": 8,
            "grasp": 8,
            "insert": 1,
            "screw": 1,
            "complete": 1,
        }

    def test_they_are_compared_start_by_start(self, write, tmp_path):
        trials = write([(True, False)] * 7 + [(False, True)])
        summary = json.loads((tmp_path / "ab" / records.SET_FILE).read_text())
        assert summary["comparisons"][0]["pairs"] == {"n": 8, "only_first": 7, "only_second": 1}
        assert summary["policies"]["a"]["complete"]["k"] == 7
        assert not trials.comparisons[0].decided

    def test_it_goes_on_in_the_order_it_began_in(self, write, tmp_path):
        whole = write([(True, True)] * 5)
        cut = records.resume(tmp_path / "ab", replace(whole.settings, n=7))
        assert cut.left == whole.settings.slots()[10:] + replace(whole.settings, n=7).slots()[10:]

    def test_it_may_stop_when_the_policies_are_told_apart(self, write):
        assert not write([(True, False)] * 7, stop_early=True).decided
        decided = write([(True, False)] * 8, stop_early=True)
        assert decided.decided
        assert replace(decided, settings=replace(decided.settings, n=50)).finished
        assert not write([(True, False)] * 8).decided

    def test_marks_that_nobody_judged_are_not_shown(self, tmp_path):
        done = write_trials(tmp_path / "set", [outcome(0, duration_s=0.0, reached={"complete": 3.0})])
        assert done.marks == ("complete",)
        judged = replace(done, outcomes=(outcome(0, "failure", duration_s=0.0, judge="operator"),))
        assert judged.marks == ("corner", "grasp", "insert", "screw", "complete")

    def test_the_page_tells_who_is_who_how_far_they_got_and_which_is_better(self, write, tmp_path):
        write([(True, False)] * 8)
        page = report.write_report([tmp_path / "ab"]).read_text()
        assert "2 policies from 8 common starts, blind" in page
        assert "a is better (p = 0.0078)" in page
        assert page.count("<title>grasp to no insert: 8</title>") == 1
        assert page.count("<title>screw to complete: 8</title>") == 1

    def test_policies_of_several_sets_are_compared_by_their_starts(self, write, tmp_path):
        write([(True, False)] * 3)
        write_trials(tmp_path / "other", [outcome(i, duration_s=0.0) for i in range(3)])
        page = report.write_report([tmp_path / "ab", tmp_path / "other"], tmp_path / "all.html").read_text()
        assert "ab: a, other" in page
        assert "p values are Holm&#39;s, for 3 comparisons" in page or "p values are Holm's, for 3 comparisons" in page


class TestPage:
    def test_it_loads_nothing_from_anywhere(self, page):
        references = re.findall(r'(?:src|href)="([^"]{0,40})', page)
        assert references
        assert [r for r in references if not r.startswith(("data:", "#"))] == []
        assert re.findall(r"url\((?!#|\")", page) == []

    def test_it_has_both_cameras_of_every_trial_that_ran_as_playable_video(self, page):
        videos = videos_of(page)
        assert len(videos) == 4
        with av.open(io.BytesIO(videos[0])) as container:
            pictures = list(container.decode(video=0))
        assert len(pictures) == 41
        assert pictures[10].time == pytest.approx(1.0)

    def test_it_shows_outcomes_figures_plot_and_stages(self, page):
        assert "1 of 2" in page
        assert "1 aborted, not counted" in page
        assert page.count("distance to the command (mm)") == 2
        assert "place the top 3.0 s" in page
        assert "The policy never started." in page

    def test_text_from_the_graph_is_escaped(self, page):
        assert "part left the table: &lt;leg4&gt;" in page
        assert "<leg4>" not in page

    def test_several_sets_are_compared_on_one_page(self, directory, tmp_path):
        write_trials(tmp_path / "other", [outcome(0)], duration_s=1.0)
        page = report.write_report([directory, tmp_path / "other"], tmp_path / "both.html").read_text()
        assert "2 sets of trials compared" in page
        assert {'id="set-1-trial-0"', 'id="set-2-trial-0"'} <= set(re.findall(r'id="set-\d-trial-0"', page))

    def test_a_missing_bag_is_said_and_the_rest_of_the_page_stands(self, directory):
        bag = records.trial_directory(directory, 1) / records.BAG_DIRECTORY
        (bag / "bag_0.mcap").unlink()
        page = report.write_report([directory]).read_text()
        assert f"no bag at {bag}" in page
        assert len(videos_of(page)) == 2


class TestVideo:
    def test_even_noise_stays_near_the_size_it_may_have(self):
        rng = np.random.default_rng(0)
        frames = [(i / 10, rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)) for i in range(100)]
        data = video.encode_mp4(frames, duration_s=10.0, max_bytes=200_000)
        assert data is not None
        assert len(data) < 300_000

    def test_no_picture_makes_no_video(self):
        assert video.encode_mp4([], duration_s=1.0, max_bytes=1000) is None
