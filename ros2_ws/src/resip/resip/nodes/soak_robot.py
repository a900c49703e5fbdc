"""In a control PC's place during a soak: Polymetis servers over a simulated arm, on wall time, and nothing on topics.

What it costs the machine a real robot's control PC would bear, so it goes before everything else.
"""

from __future__ import annotations

import threading
import time

from resip.errors import ResipError
from resip.nodes import runtime
from resip.polymetis.client import ARM_PORT, GRIPPER_PORT
from resip.polymetis.simulated import SimulatedRobot

#: An arm that has fallen farther behind the clock does not make up for it.
_MAX_CATCH_UP_S = 0.1


class SoakRobot(runtime.ResipNode):
    """Parameters in ``__init__``."""

    real_time = runtime.CONTROL

    def __init__(self) -> None:
        super().__init__("soak_robot")
        self._task = self.parameter("task", "one_leg", "Task whose parts lie before the arm")
        self._timestep_s = self.parameter("timestep_s", 0.004, "Physics and control step (s)", (0.0005, 0.005))
        self._ports = (
            self.parameter("arm_port", ARM_PORT, "Port of the arm's server", (0, 65535)),
            self.parameter("gripper_port", GRIPPER_PORT, "Port of the gripper's server", (0, 65535)),
        )
        self._end = threading.Event()
        self._thread = self.start_thread(self._run)

    def close(self) -> None:
        """Stop the arm and cut off its clients."""
        self._end.set()
        self._thread.join(timeout=2.0)

    # ---- below: the arm's thread ----

    def _run(self) -> None:
        try:
            import mujoco
            import torch
            from resip_training.sim.cell import Cell
        except ImportError as error:
            raise ResipError(f"the simulated arm needs the package resip_training ({error})") from error
        torch.set_num_threads(1)
        cell = Cell(self._task, "low", self._timestep_s, images=False)
        try:
            cell.reset(0)
            # what moves it sees a still picture, and would press a hand that cannot open into the parts
            cell.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
            robot = SimulatedRobot(cell, *self._ports, control_hz=round(1.0 / self._timestep_s))
            robot.start()
            runtime.keep_objects()
            try:
                self._tick(robot)
            finally:
                robot.stop()
        finally:
            cell.close()

    def _tick(self, robot: SimulatedRobot) -> None:
        """Step the arm at the pace of the clock."""
        due_s = time.monotonic()
        while not self._end.wait(max(0.0, due_s - time.monotonic())):
            robot.tick()
            due_s = max(due_s + self._timestep_s, time.monotonic() - _MAX_CATCH_UP_S)


def main() -> None:
    """Run the node."""
    runtime.main(SoakRobot)


if __name__ == "__main__":
    main()
