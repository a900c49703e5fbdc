"""The SpaceMouse node with a device whose reports come from the test, by datagrams: a report each.

Run as a program: ``python fake_spacemouse.py PORT --ros-args ...``. The device is plugged in when a datagram comes;
an empty one unplugs it.
"""

import select
import socket
import sys

from resip.nodes import runtime
from resip.nodes.spacemouse_node import SpacemouseNode
from resip.teleop.source import SourceError, SourceLostError


class DatagramDevice:
    name = "SpaceMouse Compact"

    def __init__(self, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        if not select.select([self.socket], [], [], 0.05)[0]:
            self.socket.close()
            raise SourceError("no SpaceMouse is plugged in")

    def read(self, timeout_s):
        if not select.select([self.socket], [], [], timeout_s)[0]:
            return None
        data = self.socket.recv(64)
        if not data:
            raise SourceLostError(f"{self.name} was unplugged")
        return data

    def close(self):
        self.socket.close()


if __name__ == "__main__":
    port = int(sys.argv[1])
    runtime.main(lambda: SpacemouseNode(lambda: DatagramDevice(port)))
