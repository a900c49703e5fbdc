"""The Foxglove layout shows what the graph publishes, and of a blind trial not which policy runs."""

import json
import re
from pathlib import Path

import pytest
from resip import spaces, topics

FILE = Path(__file__).parents[2] / "ros2_ws/src/resip/config/foxglove_layout.json"
TOPICS = {value for name, value in vars(topics).items() if name.isupper()} | {
    name(camera) for name in (topics.image, topics.compressed, topics.camera_info) for camera in spaces.CAMERAS
}


@pytest.fixture(scope="module")
def layout():
    return json.loads(FILE.read_text())


def panels(node):
    return [node] if isinstance(node, str) else [*panels(node["first"]), *panels(node["second"])]


def named_topics(value):
    if isinstance(value, dict):
        return {topic for item in [*value.values(), *value.keys()] for topic in named_topics(item)}
    if isinstance(value, list):
        return {topic for item in value for topic in named_topics(item)}
    found = re.match(r"(/[\w/]+)", value) if isinstance(value, str) else None
    return {found[1]} if found else set()


def test_every_panel_is_set_up_and_every_set_up_panel_is_shown(layout):
    assert sorted(panels(layout["layout"])) == sorted(layout["configById"])


def test_every_topic_is_one_of_the_graph(layout):
    named = named_topics(layout["configById"])
    assert named <= TOPICS | {"/rosout"}
    assert {topics.compressed(camera) for camera in spaces.CAMERAS} <= named


def test_nobody_is_told_which_policy_runs(layout):
    assert topics.POLICY_STATUS not in named_topics(layout["configById"])
