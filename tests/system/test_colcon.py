"""The workspace builds with colcon into what `ros2 run` and `ros2 launch` look for."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "ros2_ws" / "src" / "resip"
KINDS = (".py", ".j2", ".xml")
PROGRAMS = sorted(
    entry.name for entry in entry_points(group="console_scripts") if entry.value.partition(".")[0] == "resip"
)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """Install prefix of the package, built from the sources outside the checkout."""
    base = tmp_path_factory.mktemp("colcon")
    binaries = Path(sys.executable).parent
    done = subprocess.run(
        [binaries / "colcon", "--log-base", base / "log", "build", "--base-paths", SOURCE]
        + ["--build-base", base / "build", "--install-base", base / "install"],
        cwd=base,
        env={**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return base / "install" / "resip"


def test_the_package_is_in_the_ament_index(prefix):
    assert (prefix / "share/ament_index/resource_index/packages/resip").is_file()
    assert (prefix / "share/resip/package.xml").is_file()


def test_every_launch_file_is_shared(prefix):
    names = sorted(path.name for path in (REPOSITORY / "launch").glob("*.launch.py"))
    assert "one_leg.launch.py" in names
    assert sorted(path.name for path in (prefix / "share/resip/launch").iterdir()) == names


def test_every_node_and_the_program_are_executables_of_the_package(prefix):
    installed = {path.name for path in (prefix / "lib/resip").iterdir() if os.access(path, os.X_OK)}
    assert installed == set(PROGRAMS)
    assert {"resip", "sim_cell", "policy_node"} <= installed


def test_every_executable_has_its_module():
    for entry in entry_points(group="console_scripts"):
        if entry.name in PROGRAMS:
            assert callable(entry.load()), entry


def test_every_file_of_the_package_is_installed(prefix):
    installed = site_packages(prefix) / "resip"
    sources = SOURCE / "resip"
    wanted = {path.relative_to(sources) for path in sources.rglob("*") if path.suffix in KINDS}
    assert wanted == {path.relative_to(installed) for path in installed.rglob("*") if path.suffix in KINDS}


def test_an_executable_runs_from_where_it_was_installed(prefix):
    environment = {**os.environ, "PYTHONPATH": str(site_packages(prefix))}
    done = subprocess.run(
        [prefix / "lib/resip/resip", "--version"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("resip "), done.stderr


def test_pip_puts_the_program_on_the_environments_path():
    assert {name for name in PROGRAMS if (Path(sys.executable).parent / name).is_file()} == set(PROGRAMS)


def site_packages(prefix):
    (folder,) = prefix.glob("lib/python3.*/site-packages")
    return folder
