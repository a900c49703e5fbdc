"""What ``AssemblyEnv`` asks of the physics under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike


class Physics(Protocol):
    """``n`` worlds of one task: on this machine's CPU or GPU (``backend``), or a worker's (``remote.client``).

    Masks are ``(n,)`` bool. Arrays are numpy's, or torch's on a device.
    """

    def reset(self, mask: Any, seeds: Sequence[Any]) -> None:
        """Start the worlds where ``mask`` holds, each from its own of the ``n`` seeds.

        On a device a seed may be None: one of the starts that are there.
        """

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
