"""A bag as a Rerun recording: what is logged, when, and where. The package itself is replaced by one that notes it."""

import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from resip.errors import ResipError
from resip.recording import rerun
from resip.recording.rerun import bag_to_rerun
from trial_bags import write_bag


class FakeRecording:
    """Notes what it is told, and leaves a file."""

    def __init__(self, application_id, recording_id):
        self.logged = []
        self.time_s = None

    def save(self, path):
        path.touch()

    def set_time(self, timeline, duration):
        self.time_s = duration

    def log(self, path, archetype, static=False):
        self.logged.append((self.time_s, path, archetype))

    def flush(self):
        pass

    disconnect = flush


def archetype(kind):
    return lambda *positional, **named: (kind, positional, named)


@pytest.fixture
def recording(monkeypatch, tmp_path):
    """The recording of a bag of one second."""
    made = []
    kinds = ("EncodedImage", "Transform3D", "TransformAxes3D", "Scalars", "Points3D", "TextLog")
    package = SimpleNamespace(
        RecordingStream=lambda *positional, **named: made.append(FakeRecording(*positional, **named)) or made[-1],
        ViewCoordinates=SimpleNamespace(RIGHT_HAND_Z_UP="z up"),
        **{kind: archetype(kind) for kind in kinds},
    )
    monkeypatch.setattr(rerun, "_import_rerun", lambda: package)
    write_bag(tmp_path / "bag", duration_s=1.0)
    bag_to_rerun(tmp_path / "bag", tmp_path / "bag.rrd")
    return made[0]


def test_every_stream_has_its_entity(recording):
    counts = Counter(path for _, path, _ in recording.logged)
    assert counts["cameras/front"] == counts["cameras/wrist"] == 11
    assert counts["reached/x_m"] == 101
    assert counts["commanded/z_m"] == 11
    assert counts["joints/panda_joint1"] == 101
    assert counts["command/gripper"] == counts["world/parts"] == 11


def test_times_are_those_of_the_stamps_since_the_first(recording):
    times = [time_s for time_s, path, _ in recording.logged if path == "cameras/wrist"]
    assert times == pytest.approx([0.1 * i for i in range(11)])


def test_pictures_stay_as_they_were_recorded(recording):
    (_, _, named) = next(what for _, path, what in recording.logged if path == "cameras/front")
    assert named["contents"][:2] == b"\xff\xd8"


def test_a_status_is_told_when_it_changes(recording):
    assert [what[1] for _, path, what in recording.logged if path == "log/policy/status"] == [("",)]


def test_a_file_is_not_overwritten(tmp_path):
    (tmp_path / "there.rrd").touch()
    with pytest.raises(ResipError, match=r"there\.rrd exists"):
        bag_to_rerun(tmp_path, tmp_path / "there.rrd")


def test_without_the_package_its_name_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ResipError, match="pip install 'rerun-sdk"):
        bag_to_rerun(tmp_path, tmp_path / "new.rrd")
