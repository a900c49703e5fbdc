"""The container images: no engine builds them here, so what can be read of them is checked; `make lint` lints them."""

import os
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((REPOSITORY / "docker").glob("*/Dockerfile"))


@pytest.fixture
def services():
    return YAML(typ="safe").load((REPOSITORY / "docker" / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_an_image_is_made_by_scripts_that_are_there(path):
    scripts = re.findall(r"scripts/\w+\.sh|docker/\w+/\w+\.sh", path.read_text())
    assert scripts
    assert all(os.access(REPOSITORY / script, os.X_OK) for script in scripts)


@pytest.mark.parametrize("name", ["robot", "training"])
def test_an_image_has_the_part_of_its_machine(name):
    setup = (REPOSITORY / "scripts" / "setup.sh").read_text()
    (part,) = re.findall(
        r"scripts/setup\.sh /opt/resip (\w+)", (REPOSITORY / "docker" / name / "Dockerfile").read_text()
    )
    assert part == name
    assert f"\n  {part}) packages=" in setup


def test_every_image_has_a_service(services):
    built = {service["build"]["dockerfile"] for service in services.values()}
    assert built == {str(path.relative_to(REPOSITORY)) for path in DOCKERFILES}


def test_who_talks_to_the_robot_has_the_hosts_network_and_may_be_prompt(services):
    for name in ("robot", "teleop", "arm", "gripper"):
        assert services[name]["network_mode"] == "host", name
        assert "SYS_NICE" in services[name]["cap_add"], name
        assert services[name]["ulimits"]["rtprio"] > 0, name


def test_ros_nodes_have_room_for_images_in_shared_memory(services):
    assert {services[name]["ipc"] for name in ("robot", "teleop")} == {"host"}
