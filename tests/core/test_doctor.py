"""What the doctor finds, on this machine and on ones that lack something."""

import json
import socket
import sys

import pytest
from resip import doctor
from resip.doctor import Check, DoctorError, Finding, Status

OK = Finding(Status.OK, "fine")
ABSENT = Finding(Status.ABSENT, "none", "plug one in")
BROKEN = Finding(Status.BROKEN, "no libusb", "apt-get install libusb")


def examine(monkeypatch, *checks, json_file=None):
    monkeypatch.setattr(doctor, "checks", lambda models, robot_ip: list(checks))
    return doctor.examine(None, None, json_file)


class TestReport:
    def test_each_check_is_a_line_with_its_remedy(self, monkeypatch, capsys):
        examine(monkeypatch, Check("ROS 2", lambda: OK, needed=True), Check("cameras", lambda: ABSENT))

        assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
            "ROS 2 ok fine",
            "cameras absent none -> plug one in",
        ]

    def test_a_broken_thing_that_nothing_needs_is_no_failure(self, monkeypatch):
        examine(monkeypatch, Check("cameras", lambda: BROKEN))

    @pytest.mark.parametrize("finding", [BROKEN, ABSENT])
    def test_a_needed_thing_that_is_not_usable_fails_and_is_named(self, monkeypatch, finding):
        with pytest.raises(DoctorError, match="not usable here: rendering"):
            examine(monkeypatch, Check("Python", lambda: OK, needed=True), Check("rendering", lambda: finding, True))

    def test_the_findings_are_written_even_if_it_fails(self, monkeypatch, tmp_path):
        path = tmp_path / "findings.json"
        with pytest.raises(DoctorError):
            examine(monkeypatch, Check("rendering", lambda: BROKEN, needed=True), json_file=path)

        assert json.loads(path.read_text()) == [
            {
                "name": "rendering",
                "needed": True,
                "status": "broken",
                "detail": "no libusb",
                "remedy": "apt-get install libusb",
            }
        ]

    def test_the_robot_is_asked_for_only_where_its_address_is_given(self, tmp_path):
        without = [check.name for check in doctor.checks(tmp_path, None)]
        assert [check.name for check in doctor.checks(tmp_path, "127.0.0.1")] == [*without, "robot"]


class TestThisMachine:
    """What `make setup` installed must be found usable."""

    @pytest.mark.parametrize(
        "check", [doctor.check_python, doctor.check_ros, doctor.check_mujoco, doctor.check_rendering]
    )
    def test_what_the_simulated_cell_needs_is_usable(self, check):
        found = check()
        assert found.status is Status.OK, found

    def test_the_furniture_is_found_without_importing_its_package(self):
        assert doctor.check_furniture() == Finding(Status.OK, "0.1")
        assert "furniture_bench" not in sys.modules

    def test_the_camera_driver_loads(self):
        assert doctor.check_cameras().status in (Status.OK, Status.ABSENT)


class TestOtherMachines:
    @pytest.mark.parametrize(("share", "status"), [(1.0, Status.OK), (0.95, Status.ABSENT)])
    def test_real_time_that_the_kernel_cuts_short_is_told_with_the_remedy(self, monkeypatch, share, status):
        monkeypatch.setattr(doctor, "_from_probe", lambda *_: Finding(Status.OK, "granted"))
        monkeypatch.setattr(doctor.real_time, "share", lambda: share)
        found = doctor.check_real_time()
        assert found.status is status
        assert ("0.95 s of each second" in found.detail) == (status is not Status.OK)
        assert ("sched_rt_runtime_us" in found.remedy) == (status is not Status.OK)

    def test_a_missing_module_is_named_with_the_remedy(self, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", "")
        monkeypatch.setattr(sys, "executable", "/usr/bin/env")  # runs, but is no Python
        found = doctor.check_mujoco()

        assert found.status is Status.BROKEN
        assert "make setup" in found.remedy

    def test_a_probe_that_crashes_is_a_finding_not_a_crash(self):
        assert doctor._probe("import os; os.abort()") == (False, "exit status -6")

    def test_a_folder_without_models_is_named(self, tmp_path):
        found = doctor.check_models(tmp_path)
        assert found.status is Status.BROKEN
        assert str(tmp_path) in found.detail

    def test_a_model_that_is_not_what_its_manifest_describes_is_named(self, tmp_path):
        (tmp_path / "one_leg").mkdir()
        (tmp_path / "one_leg" / "manifest.json").write_text("{}")
        found = doctor.check_models(tmp_path)

        assert found.status is Status.BROKEN
        assert found.detail.startswith(str(tmp_path / "one_leg" / "manifest.json"))

    def test_a_spacemouse_is_known_by_its_vendor(self, tmp_path):
        device = tmp_path / "hidraw3" / "device"
        device.mkdir(parents=True)
        (device / "uevent").write_text("HID_ID=0003:0000256F:0000C635\nHID_NAME=3Dconnexion SpaceMouse Compact\n")
        (device / "report_descriptor").write_bytes(bytes.fromhex("05 01 09 08 a1 01"))
        found = doctor.check_spacemouse(tmp_path)

        assert found.detail.startswith("3Dconnexion SpaceMouse Compact at /dev/hidraw3")

    def test_other_input_devices_are_no_spacemouse(self, tmp_path):
        device = tmp_path / "hidraw0" / "device"
        device.mkdir(parents=True)
        (device / "uevent").write_text("HID_ID=0003:0000046D:0000C52B\nHID_NAME=Logitech USB Receiver\n")

        assert doctor.check_spacemouse(tmp_path).status is Status.ABSENT

    def test_a_robot_with_both_servers_answers(self, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as arm, socket.create_server(("127.0.0.1", 0)) as gripper:
            ports = {"arm": arm.getsockname()[1], "gripper": gripper.getsockname()[1]}
            monkeypatch.setattr(doctor, "_POLYMETIS_PORTS", ports)
            assert doctor.check_robot("127.0.0.1").status is Status.OK

    def test_a_silent_gripper_server_is_named_with_its_address(self, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as arm, socket.create_server(("127.0.0.1", 0)) as closed:
            ports = {"arm": arm.getsockname()[1], "gripper": closed.getsockname()[1]}
            monkeypatch.setattr(doctor, "_POLYMETIS_PORTS", ports)
            closed.close()
            found = doctor.check_robot("127.0.0.1")

        assert found.status is Status.BROKEN
        assert f"gripper server 127.0.0.1:{ports['gripper']}" in found.detail
        assert "arm server" not in found.detail
