"""Where a node can be reached: on loopback only, whatever other addresses the machine has."""

import os
import socket
from pathlib import Path

import pytest
from resip import topics
from ros_harness import Observer, node, own_domain

#: UDP ports of a domain, by the RTPS specification.
PORTS = range(7400 + 250 * own_domain(), 7400 + 250 * (own_domain() + 1))


def listening(pid):
    """Addresses of a process's sockets on the ports that DDS can be found at."""
    names = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists() or link.is_symlink()]
    inodes = {name.removeprefix("socket:[").rstrip("]") for name in names if name.startswith("socket:")}
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    bound = [row[1].split(":") for row in rows if row[9] in inodes]
    return {socket.inet_ntoa(bytes.fromhex(address)[::-1]) for address, port in bound if int(port, 16) in PORTS}


@pytest.fixture
def observer():
    observer = Observer()
    observer.watch(topics.IK_STATUS)
    yield observer
    observer.close()


def test_a_node_listens_on_loopback_only(observer, tmp_path):
    program = node("diff_ik_node", tmp_path / "log")
    try:
        observer.wait_for_status(topics.IK_STATUS, holding="true")
        assert listening(program.popen.pid) == {"127.0.0.1"}
    finally:
        program.kill()
