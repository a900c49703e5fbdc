"""One question to the graph that runs, from a command line."""

from __future__ import annotations

import time
from typing import Final

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger

from resip.errors import ResipError

_FIND_S: Final = 5.0
_ANSWER_S: Final = 60.0


def ask(service: str) -> str:
    """Call a service and return its message.

    Raises:
      ResipError: no such graph runs here, it did not answer, or it refused.
    """
    context = rclpy.Context()
    context.init(args=[])
    node = Node("resip_ask", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        client = node.create_client(Trigger, service)
        if not client.wait_for_service(_FIND_S):
            raise ResipError(f"{service} is not there: no graph runs in this ROS domain; start one with resip up")
        future = client.call_async(Trigger.Request())
        until_s = time.monotonic() + _ANSWER_S
        while not future.done() and time.monotonic() < until_s:
            executor.spin_once(timeout_sec=0.1)
        answer = future.result() if future.done() else None
        if answer is None:
            raise ResipError(f"{service} has not answered within {_ANSWER_S:g} s")
        if not answer.success:
            raise ResipError(answer.message)
        return answer.message
    finally:
        node.destroy_node()
        context.try_shutdown()
