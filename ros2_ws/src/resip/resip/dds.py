"""How the nodes' DDS is set up: it stays on this machine, and whole images cross in shared memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: Fast DDS's profiles beside this file: shared memory that holds raw images, and sockets on loopback or on the network.
LOOPBACK_PROFILE: Final = Path(__file__).with_name("dds_loopback.xml")
NETWORK_PROFILE: Final = Path(__file__).with_name("dds_network.xml")

_RANGE: Final = "ROS_AUTOMATIC_DISCOVERY_RANGE"
_PEERS: Final = "ROS_STATIC_PEERS"
_PROFILE: Final = "FASTDDS_DEFAULT_PROFILES_FILE"
#: What the profile's variable is called in Fast DDS 2, and the distributions that have that.
_OLD_PROFILE: Final = "FASTRTPS_DEFAULT_PROFILES_FILE"
_OLD_DISTRIBUTIONS: Final = ("humble", "iron", "jazzy")


def defaults(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables that a node's environment lacks, with their values; what is set already is the user's choice.

    A discovery range other than LOCALHOST, or static peers, open the sockets to the network.
    """
    distribution = environment.get("ROS_DISTRO", "")
    stays = environment.get(_RANGE, "LOCALHOST") == "LOCALHOST" and not environment.get(_PEERS)
    profile = _OLD_PROFILE if distribution in _OLD_DISTRIBUTIONS else _PROFILE
    wanted = {_RANGE: "LOCALHOST", profile: str(LOOPBACK_PROFILE if stays else NETWORK_PROFILE)}
    if distribution == "humble" and stays:  # knows no discovery range yet
        wanted["ROS_LOCALHOST_ONLY"] = "1"
    return {name: value for name, value in wanted.items() if name not in environment}


def is_secured(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether nodes are asked to start with keys and permissions only (SROS2)."""
    return environment.get("ROS_SECURITY_ENABLE") == "true"
