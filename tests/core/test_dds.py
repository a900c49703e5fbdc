"""DDS as the nodes set it up: nobody outside the machine can reach them unless the user asks for it."""

import xml.etree.ElementTree as ET

import pytest
from resip import dds

DDS = "{http://www.eprosima.com}"
RAW_IMAGE_BYTES = 640 * 480 * 3


def profile(environment):
    """The Fast DDS profile that a node gets in an environment."""
    values = dds.defaults(environment)
    return values.get("FASTDDS_DEFAULT_PROFILES_FILE") or values.get("FASTRTPS_DEFAULT_PROFILES_FILE")


def test_by_default_discovery_and_sockets_stay_on_the_machine():
    assert dds.defaults({})["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert profile({}) == str(dds.LOOPBACK_PROFILE)
    addresses = [element.text for element in ET.parse(dds.LOOPBACK_PROFILE).iter(f"{DDS}address")]
    assert addresses == ["127.0.0.1"]


@pytest.mark.parametrize("choice", [{"ROS_STATIC_PEERS": "10.0.0.2"}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}])
def test_peers_or_a_wider_range_open_the_sockets(choice):
    assert profile(choice) == str(dds.NETWORK_PROFILE)
    assert not list(ET.parse(dds.NETWORK_PROFILE).iter(f"{DDS}address"))


def test_what_the_user_set_is_left_alone():
    assert "ROS_AUTOMATIC_DISCOVERY_RANGE" not in dds.defaults({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"})
    assert profile({"FASTDDS_DEFAULT_PROFILES_FILE": "/mine.xml"}) is None


def test_older_distributions_are_told_by_the_names_that_they_know():
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in dds.defaults({"ROS_DISTRO": "jazzy"})
    assert dds.defaults({"ROS_DISTRO": "humble"})["ROS_LOCALHOST_ONLY"] == "1"
    assert "ROS_LOCALHOST_ONLY" not in dds.defaults({"ROS_DISTRO": "humble", "ROS_STATIC_PEERS": "10.0.0.2"})


@pytest.mark.parametrize("path", [dds.LOOPBACK_PROFILE, dds.NETWORK_PROFILE])
def test_raw_images_cross_in_one_piece(path):
    (largest,) = (int(element.text) for element in ET.parse(path).iter(f"{DDS}maxMessageSize"))
    (segment,) = (int(element.text) for element in ET.parse(path).iter(f"{DDS}segment_size"))
    assert largest > RAW_IMAGE_BYTES
    assert segment > 5 * RAW_IMAGE_BYTES, "the publisher's queue must fit"
