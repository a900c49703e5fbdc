"""Makes a trial as the trial node leaves it, without ROS: a plausible bag, its outcome and the set's summary."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from resip import images, topics
from resip.control import panda
from resip.recording import definitions
from resip.recording.writer import LOST_KEY, BagWriter, OfferedQos
from resip.trials import records
from resip.trials.evaluation import parse_policies, slots
from resip.trials.records import Outcome, Settings, TrialSet

MS = 1_000_000
START_S = 100.0
POINTING_DOWN = np.array([1.0, 0.0, 0.0, 0.0])
IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
FLAT_TOP = np.array([2**-0.5, 0.0, 0.0, 2**-0.5])  # the top's y axis is up
LEG_LYING, LEG_UP = IDENTITY, FLAT_TOP


def make(type_name, **fields):
    return definitions.typestore().types[type_name](**fields)


def header(stamp_ns, frame="panda_link0"):
    stamp = make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def pose(position, quat):
    x, y, z = (float(v) for v in position)
    qx, qy, qz, qw = (float(v) for v in quat)
    return make(
        "geometry_msgs/msg/Pose",
        position=make("geometry_msgs/msg/Point", x=x, y=y, z=z),
        orientation=make("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
    )


def joint_state(stamp_ns, names, positions, velocities=()):
    positions, velocities = (np.asarray(values, dtype=np.float64) for values in (positions, velocities))
    return make(
        "sensor_msgs/msg/JointState",
        header=header(stamp_ns),
        name=list(names),
        position=positions,
        velocity=velocities,
        effort=np.empty(0),
    )


def status(stamp_ns, **values):
    pairs = [make("diagnostic_msgs/msg/KeyValue", key=k, value=str(v)) for k, v in values.items()]
    one = make("diagnostic_msgs/msg/DiagnosticStatus", level=0, name="policy", message="", hardware_id="", values=pairs)
    return make("diagnostic_msgs/msg/DiagnosticArray", header=header(stamp_ns), status=[one])


class TrialBag:
    """Writes messages as the recorder would, a few milliseconds after their stamps."""

    def __init__(self, directory):
        self.writer = BagWriter(directory)

    def put(self, topic, type_name, message, stamp_ns, publish_ms=1, log_ms=2):
        self.writer.add_topic(topic, type_name, OfferedQos(reliable=True))
        data = bytes(definitions.typestore().serialize_cdr(message, type_name))
        self.writer.write(topic, data, stamp_ns + log_ms * MS, stamp_ns + publish_ms * MS)

    def close(self, lost="{}"):
        self.writer.close({LOST_KEY: lost})


def path_at(t):
    """A smooth fingertip path (m)."""
    return np.array([0.55 + 0.06 * np.sin(0.9 * t), 0.10 * np.sin(0.5 * t), 0.12 + 0.08 * np.cos(1.3 * t)])


def part_poses(t, duration_s):
    """Poses (6, 7): the top goes into its corner, then leg 4 is lifted and seated, a quarter of the time each."""
    corner, lying = np.array([0.59025, 0.08375, 0.0156]), np.array([0.37, 0.20, 0.015])
    quarter = duration_s / 4
    top = corner if t >= quarter else corner + [-0.05, -0.08375, 0.0]
    seated = np.array([-0.05625, -0.05625, 0.046875]) + top
    leg = lying if t < 2 * quarter else lying + [0, 0, 0.1] if t < 3 * quarter else seated + [0, 0, 0.004]
    up = t >= 2 * quarter
    rows = [np.append(top, FLAT_TOP), *(np.append(lying - [0, 0.1 * i, 0], LEG_LYING) for i in (1, 2, 3))]
    rows += [np.append(leg, LEG_UP if up else LEG_LYING), np.append([0.6815, 0.0, 0.015], IDENTITY)]
    return np.array(rows)


def picture(t, camera):
    rgb = np.zeros((240, 320, 3), np.uint8)
    rgb[..., 0] = np.linspace(30, 200, 320, dtype=np.uint8)
    rgb[..., 2] = 120 if camera == "front" else 40
    column = int(160 + 120 * np.sin(t))
    rgb[100:140, max(0, column - 20) : column + 20] = (250, 220, 60)
    return rgb


def write_bag(directory: Path, duration_s=4.0, skipped_tick=None, held_tick=None):
    """Record one run that starts at ROS time 100 s."""
    bag = TrialBag(directory)
    for i in range(round(duration_s * 100) + 1):
        t, stamp = i / 100, round((START_S + i / 100) * 1e9)
        time = make("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
        bag.put(topics.CLOCK, "rosgraph_msgs/msg/Clock", make("rosgraph_msgs/msg/Clock", clock=time), stamp, 0, 0)
        closed = t > duration_s / 2
        names = (*panda.JOINT_NAMES, *panda.FINGER_NAMES)
        fingers = [0.005, 0.005] if closed else [0.0325, 0.0325]
        state = joint_state(stamp, names, [*panda.RESET_RAD, *fingers], np.zeros(9))
        bag.put(topics.JOINT_STATES, "sensor_msgs/msg/JointState", state, stamp)
        reached = pose(path_at(t - 0.15), POINTING_DOWN)
        stamped = make("geometry_msgs/msg/PoseStamped", header=header(stamp), pose=reached)
        bag.put(topics.EE_POSE, "geometry_msgs/msg/PoseStamped", stamped, stamp)
        command = joint_state(stamp, panda.JOINT_NAMES, panda.RESET_RAD)
        bag.put(topics.JOINT_COMMAND, "sensor_msgs/msg/JointState", command, stamp, publish_ms=6, log_ms=7)
        if i % 10 == 0:
            _put_cell(bag, t, stamp, duration_s)
            if i // 10 != skipped_tick:
                _put_status(bag, t, stamp)
                if i // 10 != held_tick:
                    _put_target(bag, t, stamp, closed)
    bag.close()


def _put_cell(bag, t, stamp, duration_s):
    for camera in ("front", "wrist"):
        jpeg = np.frombuffer(images.encode_jpeg(picture(t, camera)), np.uint8)
        image = make("sensor_msgs/msg/CompressedImage", header=header(stamp, camera), format="jpeg", data=jpeg)
        bag.put(topics.compressed(camera), "sensor_msgs/msg/CompressedImage", image, stamp, 3, 4)
    poses = [pose(row[:3], row[3:]) for row in part_poses(t, duration_s)]
    array = make("geometry_msgs/msg/PoseArray", header=header(stamp), poses=poses)
    bag.put(topics.CELL_PART_POSES, "geometry_msgs/msg/PoseArray", array, stamp)


def _put_target(bag, t, stamp, closed):
    target = make("geometry_msgs/msg/PoseStamped", header=header(stamp), pose=pose(path_at(t), POINTING_DOWN))
    bag.put(topics.TARGET_POSE, "geometry_msgs/msg/PoseStamped", target, stamp, publish_ms=4, log_ms=5)
    gripper = joint_state(stamp, ["gripper"], [1.0 if closed else -1.0])
    bag.put(topics.TARGET_GRIPPER, "sensor_msgs/msg/JointState", gripper, stamp)


def _put_status(bag, t, stamp):
    values = {"inference_ms": 30.0 + 10 * (round(t * 10) % 3), "model": "one_leg", "model_sha256": "ab" * 32}
    bag.put(topics.POLICY_STATUS, "diagnostic_msgs/msg/DiagnosticArray", status(stamp, **values), stamp)


def write_trials(directory: Path, outcomes, duration_s=4.0, policy="models/one_leg", **settings):
    """Write a set whose trials all have the same bag."""
    for outcome in outcomes:
        records.write_outcome(directory, outcome)
        if outcome.duration_s > 0:
            write_bag(records.trial_directory(directory, outcome.index) / records.BAG_DIRECTORY, duration_s)
    n = len(outcomes) // len(parse_policies(policy))
    asked = Settings("one_leg", "sim", policy, "low", n, 0, 70.0, **settings)
    trials = TrialSet(directory, asked, tuple(outcomes))
    records.write_set(trials)
    return trials


def outcome(index=0, result="success", reason="assembled", duration_s=4.0, **fields):
    """A plausible outcome."""
    run_s = (START_S, START_S + duration_s)
    return Outcome(index, index, result, reason, run_s, wall_s=duration_s / 0.9, **fields)


def compared_outcomes(successes, marks=("corner", "grasp"), duration_s=0.0):
    """Outcomes of two policies, ``a`` and ``b``, in the order of a blind evaluation with seed 0.

    Args:
      successes: of each start, whether ``a`` and whether ``b`` succeeded.
      marks: what failures reached.
      duration_s: 0 leaves no bag.
    """
    found = []
    for slot in slots(["a", "b"], len(successes), 0, "blind"):
        success = successes[slot.start]["ab".index(slot.policy)]
        reached = dict.fromkeys((*marks, *(("insert", "screw", "complete") if success else ())), 1.0)
        words = ("success", "assembled") if success else ("failure", "time limit of 70 s")
        one = outcome(slot.index, *words, duration_s, policy=slot.policy, reached=reached)
        found.append(replace(one, seed=slot.start))
    return found
