"""Ticks, latencies and stages of a trial, from its bag."""

import pytest
from resip import topics
from resip.recording.reader import Bag
from resip.trials import measure, timeline
from trial_bags import START_S, TrialBag, write_bag

RUN_S = (START_S, START_S + 4.0)


@pytest.fixture
def read(tmp_path):
    def write_and_read(run_s=RUN_S, **options):
        write_bag(tmp_path / "bag", **options)
        return timeline.read(Bag(tmp_path / "bag"), run_s)

    return write_and_read


def test_times_count_from_the_policys_start(read):
    trial = read()
    assert trial.target.times_s[[0, 1, -1]] == pytest.approx([0.0, 0.1, 4.0])
    assert trial.reached.values.shape == (401, 7)
    assert trial.part_poses.values.shape == (41, 6, 7)
    assert trial.gripper_width_m.values[[0, -1]] == pytest.approx([0.065, 0.01])


def test_what_lies_outside_the_run_is_left_out(read):
    trial = read(run_s=(START_S + 1.0, START_S + 2.0))
    assert trial.target.times_s[[0, -1]] == pytest.approx([0.0, 1.0])
    assert len(trial.target.times_s) == 11


def test_ticks_are_counted_and_their_rate_is_of_ros_time(read):
    measured = measure.measure("one_leg", read())
    assert (measured.ticks, measured.missed_ticks) == (41, 0)
    assert measured.tick_rate_hz == pytest.approx(10.0)


def test_a_tick_that_never_came_is_missed(read):
    measured = measure.measure("one_leg", read(skipped_tick=20))
    assert (measured.ticks, measured.missed_ticks, measured.held_ticks) == (40, 1, 0)


def test_a_tick_without_a_target_is_a_hold_and_not_missed(read):
    measured = measure.measure("one_leg", read(held_tick=20))
    assert (measured.ticks, measured.missed_ticks, measured.held_ticks) == (40, 0, 1)


def test_latencies_are_those_of_the_recorded_times(read):
    latency = measure.measure("one_leg", read()).latency
    medians = {name: timing.median for name, timing in latency.items()}
    assert medians == pytest.approx(
        {
            "image_front": 4.0,
            "image_wrist": 4.0,
            "robot_state": 2.0,
            "tick": 4.0,
            "command": 2.0,
            "policy_inference": 40.0,
        },
        abs=1e-3,  # ms
    )
    assert set(latency) <= set(measure.LATENCIES)


def test_the_models_identity_is_what_the_policy_says(read):
    assert measure.measure("one_leg", read()).model == {"model": "one_leg", "model_sha256": "ab" * 32}


def test_an_empty_bag_measures_nothing(tmp_path):
    TrialBag(tmp_path / "bag").close()
    measured = measure.measure("one_leg", timeline.read(Bag(tmp_path / "bag"), RUN_S))
    assert (measured.ticks, measured.missed_ticks, measured.latency, measured.stages) == (0, 0, {}, [])


def test_pictures_come_with_their_times(tmp_path):
    write_bag(tmp_path / "bag", duration_s=1.0)
    pictures = list(timeline.frames(Bag(tmp_path / "bag"), "wrist", (START_S, START_S + 0.5)))
    assert [time for time, _ in pictures] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert pictures[0][1].shape == (240, 320, 3)
    assert topics.compressed("wrist") == "/wrist/color/image_raw/compressed"
