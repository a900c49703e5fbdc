"""The server's ring buffer of states."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from resip.control import panda
from resip.polymetis.messages import JOINT_FIELDS, RobotState

_COMPUTED: Final = JOINT_FIELDS.index("joint_torques_computed")


class StateLog:
    """The last ``capacity`` states, addressed by an index that only grows.

    Memory is touched as it fills: 250 bytes a state.
    """

    def __init__(self, capacity: int) -> None:
        self._joints = np.zeros((capacity, len(JOINT_FIELDS), panda.DOF), dtype=np.float32)
        self._timestamps_ns = np.zeros(capacity, dtype=np.int64)
        self._latencies_ms = np.zeros(capacity, dtype=np.float32)
        self._successful = np.zeros(capacity, dtype=np.bool_)
        self._error_codes = np.zeros(capacity, dtype=np.int32)
        self.end = 0
        """Index that the next state gets."""

    def append(self, state: RobotState, torques_nm: NDArray[np.float64]) -> None:
        """Log a state with the torques ``(dof,)`` computed for it; fields it lacks are zeros."""
        row = self.end % len(self._timestamps_ns)
        joints = self._joints[row]
        for column, name in enumerate(JOINT_FIELDS):
            values = getattr(state, name)
            joints[column] = values if len(values) else 0.0
        joints[_COMPUTED] = torques_nm[: panda.DOF]
        self._timestamps_ns[row] = state.timestamp_ns
        self._latencies_ms[row] = state.prev_controller_latency_ms
        self._successful[row] = state.prev_command_successful
        self._error_codes[row] = state.error_code
        self.end += 1

    def __getitem__(self, index: int) -> RobotState:
        row = index % len(self._timestamps_ns)
        joints = self._joints[row].astype(np.float64)
        return RobotState(
            timestamp_ns=int(self._timestamps_ns[row]),
            prev_controller_latency_ms=float(self._latencies_ms[row]),
            prev_command_successful=bool(self._successful[row]),
            error_code=int(self._error_codes[row]),
            **dict(zip(JOINT_FIELDS, joints, strict=True)),
        )

    def between(self, start: int, end: int) -> list[RobotState]:
        """States of the indices ``start`` to ``end``, both inclusive, as far as they are in the buffer."""
        oldest = max(self.end - len(self._timestamps_ns), 0)
        return [self[index] for index in range(max(start, oldest), min(end, self.end - 1) + 1)]
