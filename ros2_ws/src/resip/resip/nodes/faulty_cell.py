"""The simulated cell with faults to order, and the arm's true motion: for the fault matrix only.

An order is a header on ``/fault/order`` whose ``frame_id`` names the fault, or ``none`` to end it; the answer on
``/fault/began`` has the cell time at which it took effect.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

import grpc
import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from std_msgs.msg import Header

from resip.control import panda
from resip.faults import circle
from resip.nodes import messages, runtime
from resip.nodes.sim_cell import SimCell, _Camera
from resip.polymetis.server import ServerError
from resip.polymetis.simulated import SimulatedRobot

if TYPE_CHECKING:
    from resip_training.sim.cell import Cell

ORDER: Final = "/fault/order"
BEGAN: Final = "/fault/began"
MOTION: Final = "/fault/ee_pose"
NONE: Final = "none"
#: The cell stands still until the next order.
PAUSE: Final = "pause"

_PAUSE_POLL_S: Final = 0.002
_MOTION_PERIOD_S: Final = 0.01
_STALL_S: Final = 3.0
_JUMP_NS: Final = 5_000_000_000
_KEPT_OF: Final = 10  # frames of which the camera that drops them keeps one
_CUES: Final = {"policy nan": circle.CUE_NAN, "policy slow": circle.CUE_SLOW}

#: The camera that fails.
CAMERA: Final = "front"


class FaultyCell(SimCell):
    """One fault at a time; those of a camera are the front one's."""

    def __init__(self) -> None:
        super().__init__()
        self._fault, self._orders = NONE, deque()
        self._frames = 0
        self._last: tuple[NDArray, int] | None = None
        self._began = self.create_publisher(Header, BEGAN, runtime.STATUS_QOS)
        self._motion = self.create_publisher(PoseStamped, MOTION, runtime.CELL_QOS)
        self.create_subscription(Header, ORDER, lambda message: self._orders.append(message.frame_id), 10)

    # ---- the world's thread ----

    def _loop(self, cell: Cell, robot: SimulatedRobot) -> None:
        tick = robot.tick
        every = max(1, round(_MOTION_PERIOD_S / self._timestep_s))

        def tick_with_faults() -> None:
            """Carry orders out before the step, and tell where the arm is after it."""
            while self._orders or (self._fault == PAUSE and not self._stop):
                if self._orders:
                    self._carry_out(self._orders.popleft(), robot)
                else:
                    time.sleep(_PAUSE_POLL_S)
            tick()
            if self._step % every == 0:
                pose = panda.ee_pose(np.array(cell.joint_positions))
                self._motion.publish(messages.pose_stamped(pose, self._time_ns))

        robot.tick = tick_with_faults
        super()._loop(cell, robot)

    def _carry_out(self, fault: str, robot: SimulatedRobot) -> None:
        self._end(self._fault, robot)
        self._fault, self._frames = fault, 0
        if fault == "server killed and restarted":
            robot.die()
        elif fault == "server stalled":
            robot.stall(_STALL_S)
        elif fault == "server refuses updates":
            vars(robot.server)["update_controller"] = _refuse
        elif fault == "hard limit or reflex":
            robot.inject_fault("panda_joint2's velocity limit")
        elif fault == "gripper stuck":
            robot.hand.stick()
        self._began.publish(messages.header(self._time_ns, fault))

    def _end(self, fault: str, robot: SimulatedRobot) -> None:
        if fault == "server killed and restarted":
            robot.restart()
        elif fault == "server refuses updates":
            del vars(robot.server)["update_controller"]
        elif fault == "gripper stuck":
            robot.hand.stick(False)

    def _publish_frame(self, camera: _Camera, pixels: NDArray, time_ns: int) -> None:
        if camera.name != CAMERA:
            super()._publish_frame(camera, pixels, time_ns)
            return
        self._frames += 1
        if self._fault in _CUES:
            pixels = pixels.copy()
            pixels[0, 0] = _CUES[self._fault]
        for shown, stamp_ns in self._spoilt(pixels, time_ns):
            super()._publish_frame(camera, shown, stamp_ns)
        if self._fault != "camera freeze":
            self._last = pixels, time_ns

    def _spoilt(self, pixels: NDArray, time_ns: int) -> list[tuple[NDArray, int]]:
        """The frames that go out instead of this one."""
        previous = self._last or (pixels, time_ns)
        return {
            "camera freeze": [(previous[0], time_ns)],
            "camera drops nine frames of ten": [(pixels, time_ns)] if self._frames % _KEPT_OF == 0 else [],
            "camera frames out of order": [] if self._frames % 2 else [(pixels, time_ns), previous],
            "camera frames twice": [(pixels, time_ns), (pixels, time_ns)],
            "camera clock jumps": [(pixels, time_ns + _JUMP_NS)],
            "camera vanishes and returns": [],
        }.get(self._fault, [(pixels, time_ns)])


def _refuse(archive: bytes) -> None:
    raise ServerError(grpc.StatusCode.CANCELLED, "Failed to update controller: refused")


def main() -> None:
    """Run the node."""
    runtime.main(FaultyCell)


if __name__ == "__main__":
    main()
