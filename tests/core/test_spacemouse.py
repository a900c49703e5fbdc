"""SpaceMice: raw HID reports of each kind of model, and when a silent device counts as resting or as lost."""

from pathlib import Path

import numpy as np
import pytest
from resip.teleop import hidraw
from resip.teleop.profile import PROFILES
from resip.teleop.source import Button, Motion, RawInput, SourceError, SourceLostError
from resip.teleop.spacemouse import DEADMAN_BITS, SILENCE_S, Report, SpaceMouse, decode

AT_REST = ["01 00 00 00 00 00 00", "02 00 00 00 00 00 00"]
PULLED = "01 00 00 5e 01 00 00"  # 350 counts towards the operator


@pytest.mark.parametrize(
    ("model", "data", "report"),
    [
        ("SpaceNavigator", "01 00 00 00 00 00 00", Report(translation=(0, 0, 0))),
        ("SpaceNavigator", "02 00 00 e2 ff 00 00", Report(rotation=(0, -30, 0))),
        ("SpaceNavigator", "03 03 00", Report(buttons=0b11)),
        ("SpaceMouse Compact", "01 5e 01 a2 fe 07 00", Report(translation=(350, -350, 7))),
        ("SpaceMouse Compact", "03 02", Report(buttons=0b10)),
        ("SpaceMouse Pro", "03 00 10 00 00", Report(buttons=1 << 12)),
        (
            "SpaceMouse Wireless by its receiver",
            "01 0a 00 f6 ff 00 01 ff ff 02 00 00 ff",
            Report(translation=(10, -10, 256), rotation=(-1, 2, -256)),
        ),
        ("SpaceMouse Wireless by its receiver: battery", "17 64 00", Report()),
        ("receiver: nothing", "", Report()),
    ],
)
def test_reports_of_every_kind_of_model(model, data, report):
    assert decode(bytes.fromhex(data)) == report


def test_a_report_that_is_cut_short_is_no_motion():
    with pytest.raises(SourceLostError, match="01 5e 01 is cut short"):
        decode(bytes.fromhex("01 5e 01"))


class FakeDevice:
    """A device whose reports a test writes down; an exception among them is raised."""

    name = "SpaceMouse Compact"

    def __init__(self):
        self.reports = []
        self.closed = False

    def read(self, timeout_s):
        report = self.reports.pop(0) if self.reports else None
        if isinstance(report, Exception):
            raise report
        return report

    def close(self):
        self.closed = True


class Desk:
    """A SpaceMouse on a clock that the test turns; ``profile`` counts 300 as full deflection."""

    def __init__(self, bits=None):
        self.now_s = 100.0
        self.device = FakeDevice()
        kwargs = {} if bits is None else {"button_bits": bits}
        self.mouse = SpaceMouse(lambda: self.device, PROFILES["wired"], steady_s=lambda: self.now_s, **kwargs)

    def plug_in(self):
        self.mouse.open()
        return self

    def settle(self):
        self.now_s += SILENCE_S
        assert isinstance(self.sample(), Motion)
        return self

    def send(self, *reports):
        for data in reports:
            self.device.reports.append(bytes.fromhex(data))
            self.mouse.read(0.0)

    def sample(self):
        return self.mouse.sample(self.now_s)


def test_a_cap_that_reports_rest_counts_at_once_but_only_with_all_its_axes():
    desk = Desk().plug_in()
    desk.send(AT_REST[0])
    assert "found just now" in desk.sample()
    desk.send(AT_REST[1])
    assert isinstance(desk.sample(), Motion)


def test_a_cap_at_rest_is_silent_for_ever_and_that_is_no_fault():
    desk = Desk().plug_in().settle()
    desk.now_s += 3600.0
    assert not desk.sample().moves


@pytest.mark.parametrize(
    ("raw", "axis", "sign"),
    [
        ("01 5e 01 00 00 00 00", 1, 1.0),  # right
        ("01 00 00 5e 01 00 00", 0, 1.0),  # towards the operator
        ("01 00 00 00 00 5e 01", 2, -1.0),  # down
    ],
)
def test_the_caps_axes_are_those_of_an_operator_who_faces_the_robot(raw, axis, sign):
    desk = Desk().plug_in().settle()
    desk.send(raw)
    np.testing.assert_array_equal(desk.sample().translation, sign * np.eye(3)[axis])
    desk.send(AT_REST[0], raw.replace("01", "02", 1))
    np.testing.assert_array_equal(desk.sample().rotation, sign * np.eye(3)[axis])


def test_wireless_reports_carry_both():
    desk = Desk().plug_in().settle()
    desk.send("01 5e 01 00 00 00 00 00 00 00 00 5e 01")
    motion = desk.sample()
    assert motion.translation[1] == 1.0
    assert motion.rotation[2] == -1.0
    assert motion.stamp_s == desk.now_s


def test_a_deflected_cap_that_falls_silent_is_a_hold_until_it_is_let_go():
    desk = Desk().plug_in().settle()
    desk.send(PULLED)
    desk.now_s += SILENCE_S - 0.01
    assert desk.sample().moves
    desk.now_s += 0.02
    assert "has said nothing for 0.2 s" in desk.sample()
    desk.now_s += 60.0
    assert "has said nothing" in desk.sample()  # silence is no rest, now or later
    desk.send(PULLED)
    assert desk.sample() == "let go of the SpaceMouse's cap once"
    desk.send(*AT_REST)
    assert not desk.sample().moves
    desk.send(PULLED)
    assert desk.sample().moves


def test_an_unplugged_device_is_a_hold_and_a_deflected_one_that_comes_back_does_not_move():
    desk = Desk().plug_in().settle()
    desk.send(PULLED)
    desk.device.reports.append(SourceLostError("SpaceMouse Compact was unplugged"))
    with pytest.raises(SourceLostError):
        desk.mouse.read(0.0)
    desk.mouse.close()
    assert desk.device.closed
    assert desk.sample() == "no SpaceMouse"

    desk.plug_in()
    assert "found just now" in desk.sample()
    desk.send(PULLED)
    desk.now_s += 0.1
    assert "let go" in desk.sample()
    desk.send(PULLED, *AT_REST)
    assert not desk.sample().moves
    desk.send(PULLED)
    assert desk.sample().moves


def test_a_click_between_two_samples_is_not_missed_and_counts_once():
    desk = Desk().plug_in().settle()
    desk.send("03 01 00", "03 00 00")
    first, second = desk.sample(), desk.sample()
    assert (first.pressed, first.down) == ({Button.GRIPPER}, frozenset())
    assert second.pressed == frozenset()


def test_a_held_button_is_pressed_once_and_stays_down():
    desk = Desk(DEADMAN_BITS).plug_in().settle()
    desk.send("03 02 00", "03 02 00")
    assert desk.sample().pressed == {Button.DEADMAN}
    motion = desk.sample()
    assert (motion.pressed, motion.down) == (frozenset(), {Button.DEADMAN})


def test_what_is_pressed_while_input_does_not_count_is_not_done_later():
    desk = Desk().plug_in()
    desk.send("03 01 00")
    assert isinstance(desk.sample(), str)
    desk.settle()
    assert desk.sample().pressed == frozenset()


def test_the_raw_numbers_are_shares_of_the_full_deflection():
    desk = Desk().plug_in()
    desk.device.reports = [bytes.fromhex("01 2c 01 6a ff 00 00"), bytes.fromhex("17 64 00")]
    raw = desk.mouse.read(0.0)
    assert isinstance(raw, RawInput)
    assert list(raw.axes) == [1.0, -0.5, 0.0, 0.0, 0.0, 0.0]
    assert desk.mouse.read(0.0) is None  # the battery


# ---- hidraw ----


def plug(sysfs: Path, number, hid_id, name, descriptor):
    device = sysfs / f"hidraw{number}" / "device"
    device.mkdir(parents=True)
    (device / "uevent").write_text(f"HID_ID={hid_id}\nHID_NAME={name}\n")
    (device / "report_descriptor").write_bytes(bytes.fromhex(descriptor))


def test_only_the_multi_axis_part_of_a_receiver_is_a_spacemouse(tmp_path):
    plug(tmp_path, 0, "0003:0000046D:0000C52B", "Logitech USB Receiver", "05 01 09 06 a1 01")
    plug(tmp_path, 1, "0003:0000256F:0000C652", "3Dconnexion Universal Receiver", "05 01 09 06 a1 01")
    plug(tmp_path, 2, "0003:0000256F:0000C652", "3Dconnexion Universal Receiver", "05 01 09 08 a1 01")
    plug(tmp_path, 3, "0003:0000046D:0000C626", "3Dconnexion SpaceNavigator", "05 01 09 08 a1 01")
    assert [found.node.name for found in hidraw.spacemice(tmp_path)] == ["hidraw2", "hidraw3"]


def test_reports_come_from_the_file_and_its_end_is_told(tmp_path):
    path = tmp_path / "hidraw0"
    path.write_bytes(bytes.fromhex("01 00 00 5e 01 00 00"))
    device = hidraw.open_spacemouse(str(path))
    assert decode(device.read(0.1)) == Report(translation=(0, 350, 0))
    with pytest.raises(SourceLostError, match="was unplugged"):
        device.read(0.1)
    device.close()


def test_one_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match="hidraw9: No such file"):
        hidraw.open_spacemouse(str(tmp_path / "hidraw9"))


def test_a_missing_permission_comes_with_the_rule_that_mends_it(monkeypatch):
    def refuse(*arguments):
        raise PermissionError

    monkeypatch.setattr(hidraw.os, "open", refuse)
    with pytest.raises(SourceError, match=r"256f.*uaccess.*/etc/udev/rules.d"):
        hidraw.open_spacemouse("/dev/hidraw0")
