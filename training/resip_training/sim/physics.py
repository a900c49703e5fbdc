"""What ``AssemblyEnv`` asks of the physics under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike


class Physics(Protocol):
    """``n`` worlds of one task: on this machine's CPU or GPU (``backend``), or a worker's (``remote.client``).

    Masks are ``(n,)`` bool. Arrays are numpy's, or torch's on a device.
    """

    kind: Any
    """An array of the kind that this physics takes and gives."""

    def reset(self, mask: Any, seeds: Sequence[int | None]) -> None:
        """Start the worlds where ``mask`` holds, each from its own of the ``n`` seeds; None draws one."""

    def step(self, actions: ArrayLike) -> None:
        """Advance all worlds by one control step with actions ``(n, 10)``."""

    def push(self) -> None:
        """Kick the parts that are hit at this control step."""

    def joint_positions(self) -> Any:
        """Arm joints, rad, ``(n, 7)``."""

    def robot_state(self) -> Any:
        """The contract's robot state, ``(n, 16)``."""

    def part_poses(self) -> Any:
        """Part poses and the obstacle's, base frame, ``(n, n_parts + 1, 7)``, quaternions in a fixed hemisphere."""

    def finite(self) -> Any:
        """Which worlds' states are numbers, ``(n,)``."""

    def snapshot(self) -> dict[str, Any]:
        """What ``restore`` needs, each entry ``(n, ...)``."""
        ...

    def restore(self, state: Mapping[str, Any], mask: Any) -> None:
        """Put the worlds where ``mask`` holds back to a snapshot."""
