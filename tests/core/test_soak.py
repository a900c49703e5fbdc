"""What a soak makes of its trials' bags, outcomes and memory samples."""

import json

import numpy as np
import pytest
from resip import soak, topics
from resip.control import panda
from resip.recording.reader import Bag
from resip.trials import records
from trial_bags import MS, TrialBag, header, joint_state, make, outcome, pose, status, write_trials

TICK_NS = 100 * MS


@pytest.fixture
def record(tmp_path):
    """A bag of messages at times in ms: ticks with their targets, commands, plans, and frames of the front camera."""

    def write(ticks=(), commands=(), plans=(), frames=()):
        bag = TrialBag(tmp_path / "bag")
        for stamp_ms, age_ms, published_ms in ticks:
            stamp = stamp_ms * MS
            told = status(stamp, observation_age_ms=age_ms)
            bag.put(topics.POLICY_STATUS, "diagnostic_msgs/msg/DiagnosticArray", told, stamp)
            target = make("geometry_msgs/msg/PoseStamped", header=header(stamp), pose=pose(np.zeros(3), [0, 0, 0, 1]))
            bag.put(topics.TARGET_POSE, "geometry_msgs/msg/PoseStamped", target, stamp, publish_ms=published_ms)
        for stamp_ms in commands:
            command = joint_state(stamp_ms * MS, panda.JOINT_NAMES, panda.RESET_RAD)
            bag.put(topics.JOINT_COMMAND, "sensor_msgs/msg/JointState", command, stamp_ms * MS, publish_ms=2)
        for stamp_ms, published_ms in plans:
            plan = make("geometry_msgs/msg/PoseArray", header=header(stamp_ms * MS), poses=[])
            bag.put(topics.POLICY_PLAN, "geometry_msgs/msg/PoseArray", plan, stamp_ms * MS, publish_ms=published_ms)
        for stamp_ms in frames:
            image = make(
                "sensor_msgs/msg/CompressedImage",
                header=header(round(stamp_ms * MS)),
                format="jpeg",
                data=np.zeros(1, np.uint8),
            )
            bag.put(topics.compressed("front"), "sensor_msgs/msg/CompressedImage", image, round(stamp_ms * MS))
        bag.close()
        return soak.samples(Bag(tmp_path / "bag").records())

    return write


def test_a_frame_is_followed_from_its_capture_to_the_first_command_that_knows_of_it(record):
    # the frame is 25 ms old at the tick; the target comes 3 ms after it; the command of 1000 ms came too early
    found = record(ticks=[(1000, 25, 3)], commands=[990, 1000, 1010, 1020])
    assert found["capture_to_command"] == pytest.approx([25 + 10 + 2])


def test_a_target_that_no_command_followed_is_no_latency(record):
    assert record(ticks=[(1000, 25, 3)], commands=[990])["capture_to_command"] == []


def test_a_chunks_time_counts_from_its_observation(record):
    assert record(plans=[(1000, 112), (1800, 130)])["capture_to_plan"] == pytest.approx([112, 130])


def test_frames_that_a_camera_lacks_are_counted(record):
    found = record(frames=[1000 + 100 / 3 * i for i in range(10) if i not in (4, 5)])
    assert (found["frames_front"], found["missing_front"]) == ([8], [2])
    assert (found["frames_wrist"], found["missing_wrist"]) == ([0], [0])


def usage(time_s, stolen_s=(0.0, 0.0), late_s=(0.0, 0.0), processes=None):
    """A line of what the nodes used."""
    return {"time_s": time_s, "stolen_s": stolen_s, "late_s": late_s, "processes": processes or {}}


@pytest.fixture
def run(tmp_path):
    """Figures of a run of two trials; memory samples of one process."""

    def figures(memory_mb=(100.0,) * 8, **fields):
        write_trials(tmp_path, [outcome(i, ticks=1000, **fields) for i in range(2)], duration_s=1.0)
        rows = [
            usage(5.0 * i, processes={"policy_node": {"resident_mb": size, "cpu_s": 2.0 * i}})
            for i, size in enumerate(memory_mb)
        ]
        (tmp_path / soak.USAGE_FILE).write_text("\n".join(map(json.dumps, rows)))
        soak.reduce_bags(tmp_path)
        found = soak.summarise(tmp_path)
        found["latency"]["capture_to_command"] = {"median": 30.0, "p95": 50.0, "p99": 55.0, "max": 80.0}
        return found

    return figures


def unmet(figures):
    return [bound.name for bound in soak.bounds(figures) if not bound.met]


def test_a_sound_run_meets_every_bound_and_leaves_no_bag(run, tmp_path):
    figures = run(missed_ticks=1)
    assert (figures["ticks"], figures["ticks_without_target"], figures["trials"]) == (2000, 2, 2)
    assert unmet(figures) == []
    assert not list(tmp_path.glob("trial_*/bag"))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"missed_ticks": 2}, "ticks missed or without a target"),
        ({"held_ticks": 2}, "ticks missed or without a target"),
        ({"lost_messages": 1}, "messages lost"),
        ({"memory_mb": (300.0, 300.0, *(100.0,) * 4, 130.0, 130.0)}, "growth of the largest grower"),
    ],
)
def test_each_bound_can_be_missed(run, fields, name):
    assert unmet(run(**fields)) == [name]


def stopped(directory, stolen_s, late_s):
    """Figures after the second trial was stopped, 4 s after its start, and repeated.

    Args:
      directory: of two sound trials.
      stolen_s: what the host took from the second core meanwhile.
      late_s: how late the thread before all others woke up on it.
    """
    aside = directory / "trial_001_aborted_1"
    aside.mkdir()
    one = outcome(1, "aborted", "supervisor_node: stopped until armed again: front camera: missing")
    (aside / records.OUTCOME_FILE).write_text(json.dumps(one.as_json()))
    end_s = one.run_s[1]
    rows = [
        usage(end_s - 3, (1.0, 2.0)),
        usage(end_s - 0.7, (1.0, 2.0)),
        usage(end_s + 0.8, (1.0, 2.0 + stolen_s), (0.0, late_s)),
    ]
    (directory / soak.USAGE_FILE).write_text("\n".join(map(json.dumps, rows)))
    return soak.summarise(directory)


@pytest.mark.parametrize(
    ("stolen_s", "late_s", "unmet_bounds"),
    [(0.0, 0.002, ["stops of the graph's own"]), (0.2, 0.0, []), (0.0, 0.2, [])],
)
def test_a_stop_is_the_graphs_unless_the_machine_was_taken_away(run, tmp_path, stolen_s, late_s, unmet_bounds):
    run()
    figures = stopped(tmp_path, stolen_s, late_s)
    assert [name for name in unmet(figures) if name.startswith("stops")] == unmet_bounds
    (stop,) = figures["stops"]
    assert (stop["after_s"], stop["taken_s"]) == pytest.approx((4.0, max(stolen_s, late_s)))
    assert (figures["trials"], figures["trials_left"]) == (2, 0)


def test_what_was_taken_long_before_a_stop_does_not_excuse_it():
    stolen_s, late_s = (0.0, 0.5, 0.5, 0.5, 0.5), (0.0, 0.3, 0.0, 0.0, 0.001)
    times_s = (0.0, 1.0, 2.0, 9.0, 10.0)
    rows = [usage(t, (stolen,), (late,)) for t, stolen, late in zip(times_s, stolen_s, late_s, strict=True)]
    assert soak.taken_s(rows, around_s=9.4) == 0.001
    assert soak.taken_s(rows, around_s=0.9) == 0.5


@pytest.mark.parametrize(("left", "stops", "cut"), [(0, 1, False), (58, soak.MOST_STOPS, False), (58, 1, True)])
def test_a_soak_that_was_interrupted_is_told_from_one_that_was_given_up(left, stops, cut):
    assert soak.cut_short({"trials_left": left, "stops": [{}] * stops}) is cut


def test_trials_that_were_given_up_are_missed(run):
    figures = run(result="aborted")
    assert (figures["trials"], figures["trials_left"]) == (0, 2)
    assert unmet(figures) == ["trials left out", "stops of the graph's own"]


def test_what_was_not_measured_meets_no_bound(run):
    figures = run(memory_mb=())
    figures["latency"] = {}
    assert unmet(figures) == ["camera frame to joint command, p95", "growth of the largest grower"]


def test_memory_at_the_start_is_no_growth(run):
    usage = run(memory_mb=(50.0, 60.0, *(100.0,) * 6))["processes"]["policy_node"]
    assert (usage["growth_mb"], usage["cores"]) == (0.0, 0.4)


def test_a_soak_that_ended_at_once_has_its_one_sample(run):
    usage = run(memory_mb=(50.0,))["processes"]["policy_node"]
    assert usage == {"early_mb": 50.0, "late_mb": 50.0, "growth_mb": 0.0, "cores": 0.0}
