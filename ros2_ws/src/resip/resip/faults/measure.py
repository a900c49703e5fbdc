"""How long the arm moved after a fault, from its true motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: The fingertip is at rest below this speed: a braked arm of 0.1 m/s wobbles with up to 0.025 m/s, over a millimetre.
REST_M_S: Final = 0.03
#: Speeds are those over so long: three samples of the cell's.
_SPAN_S: Final = 0.03
#: The arm settles until so long after the fault; what it does later is drift.
_SETTLED_S: Final = 0.5


@dataclass(frozen=True)
class Hold:
    """What the arm did after a fault."""

    time_s: float
    """From the fault until the fingertip was at rest for good; not finite if it never was."""
    path_m: float
    """How far it went until it had settled."""
    drift_m: float
    """How far it went afterwards, at most."""


def hold(times_s: Array, positions_m: Array, fault_s: float) -> Hold:
    """Measure a hold.

    Args:
      times_s: ``(n,)``, rising: the cell's time.
      positions_m: ``(n, 3)`` fingertip, as the simulation has it.
      fault_s: when the fault began.
    """
    span = max(1, round(_SPAN_S / float(np.median(np.diff(times_s)))))
    speed_m_s = np.linalg.norm(positions_m[span:] - positions_m[:-span], axis=1) / (times_s[span:] - times_s[:-span])
    moving = (speed_m_s >= REST_M_S) & (times_s[span:] > fault_s)
    last = int(np.flatnonzero(moving)[-1]) + span if moving.any() else -1
    if last == len(times_s) - 1:
        return Hold(float("inf"), float("inf"), float("inf"))
    begin = int(np.searchsorted(times_s, fault_s))
    settled = max(last + 1, int(np.searchsorted(times_s, fault_s + _SETTLED_S)))
    steps_m = np.linalg.norm(np.diff(positions_m[begin : settled + 1], axis=0), axis=1)
    drift_m = np.linalg.norm(positions_m[settled:] - positions_m[settled], axis=1)
    return Hold(
        time_s=max(0.0, float(times_s[last + 1] - fault_s)) if last >= 0 else 0.0,
        path_m=float(steps_m.sum()),
        drift_m=float(drift_m.max(initial=0.0)),
    )
