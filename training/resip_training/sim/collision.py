"""Who collides with whom: MuJoCo's contype/conaffinity bits, named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

_SOLID_BIT, _FINGER_BIT, _THREAD_BIT = 1, 2, 4

#: MuJoCo geom groups: what the viewer and the renderer show separately.
VISUAL_GROUP: Final = 2
COLLISION_GROUP: Final = 3

#: Contact time constant (s) and damping ratio: stiff for gram-scale parts, stable at a 4 ms step.
_PART_SOLREF: Final = (0.008, 1.0)
#: Impedance of the contacts: the default (0.9 to 0.95) lets 13 N of grip sink 0.5 mm into gram-scale parts.
_PART_SOLIMP: Final = (0.95, 0.99, 0.0005, 0.5, 2.0)
#: A contact gives way in proportion to the acceleration that it bears: 5 N on 4 g need this to sink under 0.1 mm.
_LIGHT_SOLIMP: Final = (0.9999, 0.9999, 0.0001, 0.5, 2.0)
_GRIPPED_SOLIMP: Final = (0.995, 0.999, 0.0001, 0.5, 2.0)
_PART_FRICTION: Final = 0.15  # reference: parts 0.15
_TABLE_FRICTION: Final = 0.10  # reference: table 0.10
_FINGER_FRICTION: Final = 0.8
#: MuJoCo's defaults; contacts of fewer than 4 and 6 dimensions leave them out.
_TORSIONAL_M, _ROLLING_M = 0.005, 0.0001


@dataclass(frozen=True)
class Collides:
    """A collision class: bits, sliding and rolling friction, and whether its friction overrides the other's."""

    contype: int
    conaffinity: int
    friction: float
    priority: int = 0
    solimp: tuple[float, ...] = _PART_SOLIMP
    torsional_m: float = _TORSIONAL_M
    rolling_m: float = _ROLLING_M
    """Lever arms of the resistance to spinning and to rolling."""

    def __or__(self, other: Collides) -> Collides:
        """Collide as both do, with this one's friction."""
        return Collides(
            self.contype | other.contype,
            self.conaffinity | other.conaffinity,
            self.friction,
            self.priority,
            self.solimp,
            self.torsional_m,
            self.rolling_m,
        )

    def geom_fields(self) -> dict[str, Any]:
        """Keyword arguments for ``MjsBody.add_geom``."""
        dimensions = 6 if self.rolling_m > _ROLLING_M else 4 if self.priority else 3
        return {
            "contype": self.contype,
            "conaffinity": self.conaffinity,
            "friction": (self.friction, self.torsional_m, self.rolling_m),
            "priority": self.priority,
            "condim": dimensions,
            "solref": _PART_SOLREF,
            "solimp": self.solimp,
            "group": COLLISION_GROUP,
            "rgba": (0.6, 0.7, 0.8, 1.0),
        }


TABLE: Final = Collides(_SOLID_BIT, _SOLID_BIT, _TABLE_FRICTION)
PART: Final = Collides(_SOLID_BIT, _SOLID_BIT, _PART_FRICTION)
#: Parts of a few grams with a close fit (reference: factory parts, friction 0.25).
LIGHT: Final = Collides(_SOLID_BIT, _SOLID_BIT, 0.25, solimp=_LIGHT_SOLIMP)
#: Fingers grip: their friction decides, with torsional friction.
FINGER: Final = Collides(_SOLID_BIT | _FINGER_BIT, _SOLID_BIT, _FINGER_FRICTION, priority=1)
#: Round parts, which would roll off the table without any resistance.
ROUND: Final = Collides(_SOLID_BIT, _SOLID_BIT, _PART_FRICTION, rolling_m=0.002)
#: Where fingers grip a part at a point or a line, beside the shape that meets the rest: soft fingertips would hold it
#: by a patch, and a contact of default stiffness lets it creep out of the hand.
GRIPPED: Final = Collides(0, _FINGER_BIT, _FINGER_FRICTION, priority=2, solimp=_GRIPPED_SOLIMP, torsional_m=0.01)
HAND: Final = Collides(_SOLID_BIT, _SOLID_BIT, _PART_FRICTION)
#: Threads meet threads, pegs and rings only, so that nothing else tests their many capsules.
THREAD: Final = Collides(_THREAD_BIT, _THREAD_BIT, _PART_FRICTION)
#: Ring bosses: threads, pegs, legs and fingers.
MATED: Final = Collides(_THREAD_BIT, _THREAD_BIT | _FINGER_BIT, _PART_FRICTION)
