"""Reads policies/resip.xml as SROS2 does: who may publish, subscribe, reply and request what."""

import xml.etree.ElementTree as ET
from fnmatch import fnmatch
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "ros2_ws/src/resip/policies/resip.xml"
KINDS = ("publish", "subscribe", "reply", "request")
_INCLUDE = "{http://www.w3.org/2001/XInclude}include"


def permissions():
    """Names by kind by node, private ones in full."""
    return {profile.get("node"): _of(profile) for profile in ET.parse(FILE).iter("profile")}


def enclaves():
    """Path of the enclave of each node."""
    paths = {}
    for enclave in ET.parse(FILE).iter("enclave"):
        (profile,) = enclave.iter("profile")
        paths[profile.get("node")] = enclave.get("path")
    return paths


def allows(permissions, kind, name):
    """Whether a node may do this with a topic or service."""
    return any(fnmatch(name, pattern) for pattern in permissions[kind])


def _of(profile):
    found = {kind: set() for kind in KINDS}
    for rule in _rules(profile):
        for kind in KINDS:
            if rule.get(kind) == "ALLOW":
                found[kind] |= {item.text.replace("~", f"/{profile.get('node')}") for item in rule}
    return found


def _rules(profile):
    for child in profile:
        if child.tag == _INCLUDE:
            assert child.get("xpointer") == "xpointer(/profile/*)"
            yield from ET.parse(FILE.parent / child.get("href")).getroot()
        else:
            yield child
