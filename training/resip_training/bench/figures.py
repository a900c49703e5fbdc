"""What is measured of a simulator, and the clock that it is measured with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figures:
    """One task stepped by one simulator."""

    name: str
    """Of the task."""
    simulator: str
    """With its version."""
    actions: str
    """Who chose them: "expert" or "random"."""
    control_hz: float
    timestep_s: float
    """Of the physics."""
    worlds: int
    simulated_s: float
    """In all worlds together."""
    steps_per_cpu_s: float
    """Control steps of one world, by ``control_hz``, that a second of one core's time pays for."""
    realtime_factor: float
    """Simulated seconds that a second of one core's time pays for."""
    contacts_mean: float
    """Touching points in one world."""
    penetration_p99_m: float
    """Of the depths of all touching points."""
    penetration_max_m: float


@dataclass(frozen=True)
class BCFigures:
    """Behaviour cloning of a state MLP by one project, on the same demonstrations."""

    project: str
    """With its version, and torch's."""
    parameters: int
    """Of the network."""
    batch_size: int
    updates: int
    """That were timed."""
    samples_per_cpu_s: float
    """What a second of one core's time pays for: the loader, the network, its optimiser, and what is logged."""


@dataclass
class CpuClock:
    """CPU time of this process, all its threads together, added up over what was measured."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the CPU time of the block to ``seconds[name]``."""
        start_s = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start_s
