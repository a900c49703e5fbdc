"""Bags: what is written is what public readers and ours read, also after a crash."""

import json

import mcap.reader
import mcap_ros2.decoder
import numpy as np
import pytest
import rosbags.rosbag2
from resip import topics
from resip.recording import commands, definitions
from resip.recording.check import CELL_TOPICS, GRAPH_TOPICS, audit_lines, inspect
from resip.recording.loss import LossCounter
from resip.recording.reader import Bag, BagError
from resip.recording.writer import LOST_KEY, BagExistsError, BagWriter, OfferedQos

JOINT_STATE = "sensor_msgs/msg/JointState"
CLOCK = "rosgraph_msgs/msg/Clock"
MS = 1_000_000


def make(type_name, **fields):
    return definitions.typestore().types[type_name](**fields)


def serialised(type_name, message):
    return bytes(definitions.typestore().serialize_cdr(message, type_name))


def time_of(ns):
    return make("builtin_interfaces/msg/Time", sec=ns // 10**9, nanosec=ns % 10**9)


def joint_state(stamp_ns, position=0.0):
    header = make("std_msgs/msg/Header", stamp=time_of(stamp_ns), frame_id="")
    empty = np.empty(0)
    message = make(JOINT_STATE, header=header, name=["a"], position=np.array([position]), velocity=empty, effort=empty)
    return serialised(JOINT_STATE, message)


def clock(ns):
    return serialised(CLOCK, make(CLOCK, clock=time_of(ns)))


def record_joint_states(writer, stamps_ms, topic=topics.JOINT_STATES):
    writer.add_topic(topic, JOINT_STATE, OfferedQos(reliable=True))
    for i, stamp_ms in enumerate(stamps_ms):
        now_ns = stamp_ms * MS + 3 * MS
        writer.write(topic, joint_state(stamp_ms * MS, float(i)), now_ns, now_ns - 2 * MS, sequence=i + 1)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "bag"


@pytest.fixture
def bag(directory):
    """100 joint states at 100 Hz and three clock messages, closed with nothing lost."""
    writer = BagWriter(directory)
    writer.add_topic(topics.CLOCK, CLOCK, OfferedQos(reliable=False))
    for i in range(3):
        writer.write(topics.CLOCK, clock(i * MS), i * MS, i * MS)
    record_joint_states(writer, range(0, 1000, 10))
    writer.close({LOST_KEY: "{}"})
    return directory


def test_the_mcap_reader_decodes_every_message_with_its_log_and_publish_time(bag):
    with (bag / "bag_0.mcap").open("rb") as stream:
        reader = mcap.reader.make_reader(stream, decoder_factories=[mcap_ros2.decoder.DecoderFactory()])
        messages = list(reader.iter_decoded_messages(topics=[topics.JOINT_STATES]))

    assert [decoded.position[0] for _, _, _, decoded in messages] == list(range(100))
    assert messages[5][2].log_time == 53 * MS
    assert messages[5][2].publish_time == 51 * MS


def test_the_rosbags_reader_opens_the_directory_and_finds_types_counts_and_qos(bag):
    with rosbags.rosbag2.Reader(bag) as reader:
        assert {c.topic: (c.msgtype, c.msgcount) for c in reader.connections} == {
            topics.CLOCK: (CLOCK, 3),
            topics.JOINT_STATES: (JOINT_STATE, 100),
        }
        assert reader.message_count == 103
        assert reader.duration == 993 * MS + 1
        assert sum(1 for _ in reader.messages()) == 103
        (joints,) = (c for c in reader.connections if c.topic == topics.JOINT_STATES)
        assert [profile.reliability.name for profile in joints.ext.offered_qos_profiles] == ["RELIABLE"]


def test_our_reader_gives_back_the_very_bytes(bag):
    records = list(Bag(bag).records([topics.JOINT_STATES]))

    assert [record.data for record in records] == [joint_state(i * 10 * MS, float(i)) for i in range(100)]
    assert records[7].decode().position[0] == 7.0
    assert records[7].stamp_ns == 70 * MS
    assert records[7].sequence == 8


def test_a_clock_message_is_stamped_by_the_time_it_tells():
    assert definitions.stamp_ns(CLOCK, clock(5_000_000_123)) == 5_000_000_123


def test_a_message_without_a_time_has_no_stamp():
    data = serialised("std_msgs/msg/String", make("std_msgs/msg/String", data="hello, hello"))
    assert definitions.stamp_ns("std_msgs/msg/String", data) is None


def test_a_type_that_is_not_standard_is_refused_by_name(directory):
    with pytest.raises(definitions.UnknownMessageError, match="'my_msgs/msg/Thing' is not among"):
        BagWriter(directory).add_topic("/thing", "my_msgs/msg/Thing", OfferedQos(reliable=True))


def test_a_recording_never_overwrites_another(bag):
    with pytest.raises(BagExistsError, match="exists already"):
        BagWriter(bag)


def test_a_bag_that_was_never_closed_reads_up_to_its_last_whole_chunk(directory):
    writer = BagWriter(directory)
    record_joint_states(writer, range(0, 100_000, 10))
    writer.flush()

    bag = Bag(directory)
    positions = [record.decode().position[0] for record in bag.records()]

    assert not bag.complete
    assert len(positions) > 5_000
    assert positions == list(range(len(positions)))


def test_a_file_cut_in_the_middle_reads_up_to_the_cut(bag):
    path = bag / "bag_0.mcap"
    path.write_bytes(path.read_bytes()[:-200])
    assert len(list(Bag(bag).records())) == 103


def test_a_changed_byte_in_a_closed_bag_is_found_and_what_comes_before_is_read(directory):
    writer = BagWriter(directory)
    record_joint_states(writer, range(0, 100_000, 10))
    writer.close({LOST_KEY: "{}"})
    path = directory / "bag_0.mcap"
    with path.open("rb") as stream:
        chunk = mcap.reader.make_reader(stream).get_summary().chunk_indexes[1]
    data = bytearray(path.read_bytes())
    data[chunk.chunk_start_offset + chunk.chunk_length // 2] ^= 1
    path.write_bytes(data)

    records = Bag(directory).records()
    first = [next(records) for _ in range(1000)]
    assert [record.decode().position[0] for record in first] == list(range(1000))
    with pytest.raises(BagError, match=f"{path} is damaged"):
        list(records)


def test_a_directory_without_a_bag_is_an_error_that_names_it(tmp_path):
    with pytest.raises(BagError, match=f"no bag at {tmp_path}: expected an .mcap file"):
        Bag(tmp_path)


def test_a_trials_directory_stands_for_its_bag(bag):
    assert Bag(bag.parent).path == bag / "bag_0.mcap"


class TestLossCounter:
    def test_consecutive_messages_are_no_loss_whatever_number_the_first_has(self):
        counter = LossCounter()
        for sequence in range(41, 60):
            counter.see("/a", b"w", sequence)
        assert counter.lost == {}

    def test_a_jump_counts_what_it_skips_by_topic(self):
        counter = LossCounter()
        for topic, sequence in [("/a", 1), ("/a", 4), ("/b", 1), ("/b", 2), ("/a", 6)]:
            counter.see(topic, b"w", sequence)
        assert counter.lost == {"/a": 3}

    def test_two_publishers_of_a_topic_are_counted_apart(self):
        counter = LossCounter()
        for writer, sequence in [(b"x", 1), (b"y", 100), (b"x", 2), (b"y", 101)]:
            counter.see("/a", writer, sequence)
        assert counter.lost == {}

    def test_a_loss_across_a_restart_belongs_to_the_new_count(self):
        counter = LossCounter()
        counter.see("/a", b"w", 1)
        counter.restart()
        counter.see("/a", b"w", 3)
        assert counter.lost == {"/a": 1}


class TestCheck:
    def test_counts_rates_and_a_whole_recording(self, bag):
        report = inspect(bag, expected=[topics.JOINT_STATES])

        joints = next(t for t in report.topics if t.topic == topics.JOINT_STATES)
        assert (joints.count, joints.gaps, joints.lost) == (100, 0, 0)
        assert joints.rate_hz == pytest.approx(100.0)
        assert report.problems == []

    def test_a_pause_in_a_steady_stream_is_a_gap(self, directory):
        writer = BagWriter(directory)
        record_joint_states(writer, [*range(0, 500, 10), *range(560, 1000, 10)])
        writer.close({LOST_KEY: "{}"})

        joints = inspect(directory).topics[0]

        assert joints.gaps == 1
        assert joints.longest_gap_s == pytest.approx(0.07)

    def test_a_stamp_that_goes_back_is_told_but_not_a_log_time_that_does(self, directory):
        writer = BagWriter(directory)
        record_joint_states(writer, [0, 10, 20, 30, 25, 40])
        writer.add_topic(topics.EE_POSE, JOINT_STATE, OfferedQos(reliable=True))
        for i, logged_ms in enumerate([0, 20, 10, 30]):
            writer.write(topics.EE_POSE, joint_state(i * 10 * MS), logged_ms * MS, logged_ms * MS, sequence=i + 1)
        writer.close({})
        report = inspect(directory)
        assert {topic.topic: topic.disordered for topic in report.topics} == {topics.JOINT_STATES: 1, topics.EE_POSE: 0}
        assert f"audit: stamps that go back: {topics.JOINT_STATES} 1" in audit_lines(report)

    @pytest.mark.parametrize(
        ("front_ms", "wrist_ms", "skew_s"),
        [
            ([0, 100, 200], [3, 103, 203], (0.003, 0.003)),
            ([0, 100, 200], [0, 200], (0.0, 0.1)),  # a frame of the wrist is missing
            ([0, 100], [40], (0.05, 0.06)),
            ([0], [], None),
        ],
    )
    def test_the_cameras_skew_is_that_of_the_nearest_frames(self, directory, front_ms, wrist_ms, skew_s):
        writer = BagWriter(directory)
        for camera, stamps_ms in (("front", front_ms), ("wrist", wrist_ms)):
            if stamps_ms:
                record_joint_states(writer, stamps_ms, topics.compressed(camera))
        writer.close({})
        assert inspect(directory).camera_skew_s == (skew_s and pytest.approx(skew_s))

    def test_lost_messages_are_a_problem_named_by_topic(self, directory):
        writer = BagWriter(directory)
        record_joint_states(writer, range(0, 100, 10))
        writer.close({LOST_KEY: json.dumps({topics.JOINT_STATES: 4})})
        report = inspect(directory, expected=[])
        assert report.lost == 4
        assert report.problems == [f"{topics.JOINT_STATES}: 4 messages lost"]

    def test_topics_of_the_graph_that_never_spoke_are_problems(self, bag):
        missing = inspect(bag).missing
        assert set(missing) == {*GRAPH_TOPICS, *CELL_TOPICS} - {topics.JOINT_STATES, topics.CLOCK}

    def test_the_robots_bag_is_not_asked_for_the_cells_topics(self, directory):
        writer = BagWriter(directory)
        record_joint_states(writer, [0])
        writer.close({LOST_KEY: "{}"})
        assert set(inspect(directory).missing) == set(GRAPH_TOPICS) - {topics.JOINT_STATES}

    def test_an_unfinished_bag_says_so(self, directory):
        writer = BagWriter(directory)
        record_joint_states(writer, range(0, 100_000, 10))
        writer.flush()
        report = inspect(directory, expected=[])
        assert report.lost is None
        assert report.problems[0].startswith("not closed: the recorder was killed")

    def test_the_command_fails_in_one_line_that_names_each_fault(self, bag, tmp_path):
        with pytest.raises(commands.BagCheckError, match=f"{topics.EE_POSE}: no message") as caught:
            commands.bag_check([bag], tmp_path / "f.json")
        assert "\n" not in str(caught.value)
        assert [report["n_messages"] for report in json.loads((tmp_path / "f.json").read_text())] == [103]

    def test_the_command_takes_a_folder_of_bags_and_names_each_that_is_not_whole(self, tmp_path):
        for name in ("trial_000", "trial_001"):
            writer = BagWriter(tmp_path / name)
            record_joint_states(writer, [0])
            writer.close({LOST_KEY: "{}"})
        with pytest.raises(commands.BagCheckError, match=r"2 of 2 not whole: .*trial_000.* \| .*trial_001"):
            commands.bag_check([tmp_path])

    def test_a_file_that_is_no_recording_is_not_taken_for_one_that_was_cut(self, tmp_path):
        (tmp_path / "README.md").write_text("words")
        with pytest.raises(BagError, match=r"no bag at .*README\.md: expected an \.mcap file"):
            commands.bag_check([tmp_path / "README.md"])

    def test_the_command_without_a_bag_says_so(self):
        with pytest.raises(BagError, match="no bag to read: name one"):
            commands.bag_check([])
