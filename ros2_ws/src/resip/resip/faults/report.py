"""The matrix's figures as JSON and as the table of docs/safety.md."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import resip

#: Longest time from a fault to an arm at rest, and farthest that it may creep afterwards.
BOUND_S: Final = 0.2
DRIFT_M: Final = 0.005
_BEGIN: Final = "<!-- written by `make faults` -->"
_END: Final = "<!-- end -->"


@dataclass(frozen=True)
class Result:
    """One fault.

    Attributes:
      fault: its name.
      time_to_hold_s: from its beginning to the fingertip at rest, cell time.
      path_m: how far the fingertip went meanwhile.
      drift_m: how far it went afterwards, at most, with the fault ended and the policy started again.
      speed_m_s: of the fingertip before.
      reason: what was said.
      began_s: cell time of its beginning.
      named: whether that names the cause.
      rearmed: whether it moved again once armed; None where the graph has to be started again.
      note: more to know.
    """

    fault: str
    time_to_hold_s: float
    path_m: float
    drift_m: float
    speed_m_s: float
    reason: str
    named: bool
    rearmed: bool | None
    note: str = ""
    began_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every bound was met."""
        return self.time_to_hold_s <= BOUND_S and self.drift_m <= DRIFT_M and self.named and self.rearmed is not False


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """Plain values."""
    return {
        "bound_s": BOUND_S,
        "drift_bound_m": DRIFT_M,
        "clock": "the cell's",
        "resip": resip.__version__,
        "python": platform.python_version(),
        "n": len(results),
        "k": sum(result.ok for result in results),
        "faults": [_plain({**dataclasses.asdict(result), "ok": result.ok}) for result in results],
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values that JSON knows: what is not finite becomes null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def write_json(results: Sequence[Result], path: Path) -> None:
    """Write the figures."""
    path.write_text(json.dumps(as_json(results), indent=2) + "\n")


def table(results: Sequence[Result]) -> str:
    """The matrix as Markdown."""
    lines = ["| fault | held after | path | drift | moves again | what is said |", "|---|---|---|---|---|---|"]
    for result in results:
        again = {True: "after arming", False: "no", None: "after a new start"}[result.rearmed]
        said = result.reason.replace("|", "/")
        said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
        note = f"; {result.note}" if result.note else ""
        lines.append(
            f"| {result.fault} | {result.time_to_hold_s * 1e3:.0f} ms | {result.path_m * 1e3:.0f} mm "
            f"| {result.drift_m * 1e3:.1f} mm | {again} | {said}{note} |"
        )
    return "\n".join(lines)


_LONGEST: Final = 110


def write_table(results: Sequence[Result], page: Path) -> None:
    """Put the table into a page, between its two marks."""
    text = page.read_text()
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}\n\n{table(results)}\n\n{_END}{after}")
