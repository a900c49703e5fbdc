"""Thousands of copies of a task's physics on a GPU: MuJoCo Warp on the scene that the CPU simulates.

The state lives on the device, in arrays that Warp steps and torch reads and writes; in a step the host waits for
nothing. Starts are settled on the CPU, so that a seed gives the start that it gives there, and kept on the device:
a reset copies rows. What Warp integrates in float32 is the CPU's scene with the CPU's drives, so that the same
actions lead to the same states until contacts amplify the rounding.

Three things differ from the CPU. Seeds that were not given are drawn from the starts that the device has, not
afresh (see ``WarpWorlds.reset``). An episode is not repeatable to the bit: the order of sums varies on a GPU. And
an action that is no rotation gives a state that is no number, where the CPU's refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import mujoco
import mujoco_warp
import numpy as np
import torch
import warp
from mujoco_warp import OverflowType
from resip import arrays
from resip.control import panda
from resip.errors import ResipError

from resip_training.sim import hold, randomize, scene, warp_kernels
from resip_training.sim.backend import STATE_FIELDS, Backend
from resip_training.sim.drive import TENDON_DRIVES, Drive
from resip_training.sim.task import Randomness, Task
from resip_training.sim.worlds import Worlds

#: Room for pairs of geoms that may touch, shared by all worlds: this many for each. Experts reach 161 (one_leg).
CONTACTS_PER_WORLD: Final = 256
#: Room for constraint rows in each world. Experts reach 422 (one_leg) to 441 (lamp).
CONSTRAINTS_PER_WORLD: Final = 640
#: From how many starts seeds that were not given are drawn.
AUTOMATIC_STARTS: Final = 1024
#: Starts are settled on the CPU in batches of so many.
_SETTLED_AT_ONCE: Final = 64
#: What is lost if Warp runs out of room; it also marks solvers that stop at their iteration limit, which C does too.
_LOST: Final = int(OverflowType.NEFC | OverflowType.BROADPHASE | OverflowType.NARROWPHASE | OverflowType.CCD)

warp.config.log_level = warp.LOG_WARNING

_TENDONS: Final = TENDON_DRIVES.stop - TENDON_DRIVES.start


class WarpWorlds(Backend):
    """The backend of a GPU. The state's arrays are tensors on the device: what is written there is simulated."""

    def __init__(
        self,
        task: Task,
        count: int,
        level: Randomness,
        device: str = "cuda",
        drive: Drive = "impedance",
        threads: int = 0,
        pushes: float = 0.0,
    ) -> None:
        """Build the scene, put it on the device and compile what runs there: minutes, the first time on a machine.

        Args:
          task: what to simulate.
          count: how many worlds.
          level: how far episodes start from the nominal layout.
          device: "cuda", "cuda:1" or, for tests, "cpu".
          drive: how the arm answers (see ``drive``).
          threads: that settle starts on the CPU; 0 takes all cores.
          pushes: chance that ``push`` hits a part.

        Raises:
          ResipError: no such GPU, or the meshes' wheel is missing.
        """
        self._device = _find_device(device)
        model = scene.build(task, drive)
        with warp.ScopedDevice(self._device):
            self._model = mujoco_warp.put_model(_for_warp(model))
            self._data = mujoco_warp.put_data(
                model, mujoco.MjData(model), nworld=count, nconmax=CONTACTS_PER_WORLD, njmax=CONSTRAINTS_PER_WORLD
            )
            self._rows = warp.zeros((count, _TENDONS, panda.DOF), dtype=float)
            self._deepest = warp.zeros(count, dtype=float)
            dofs = {name: warp.array(np.tile(getattr(model, name), (count, 1)), dtype=float) for name in hold.HELD}
        self._model.opt.warn_overflow = 0  # the alarm tells
        for name, values in dofs.items():
            setattr(self._model, name, values)
        self._has_tendons = drive == "impedance"
        self._model.callback.control = self._on_substep
        state = {name: warp.to_torch(getattr(self._data, name)) for name in STATE_FIELDS}
        super().__init__(
            task,
            level,
            model,
            state | {"time": torch.zeros_like(state["time"], dtype=torch.float64)},  # a float32 clock would drift
            tendon_rows=warp.to_torch(self._rows).view(count, -1) if self._has_tendons else None,
            dofs={name: warp.to_torch(values) for name, values in dofs.items()} if task.held_part else {},
        )
        self._alarm = _Alarm(warp.to_torch(self._data.overflow))
        self._starts = _Starts(task, level, drive, threads, pushes, self.qpos.device)
        self._row = torch.zeros(count, dtype=torch.int64, device=self.qpos.device)
        self._steps = torch.zeros_like(self._row)
        self._graph = self._capture()

    def _capture(self) -> Any:
        """Record the substeps of one command period, so that one launch repeats them."""
        before = self.snapshot()
        with warp.ScopedDevice(self._device):
            warp.synchronize()
            mujoco_warp.step(self._model, self._data)  # compiles
            with warp.ScopedCapture() as capture:
                for _ in range(self._substeps):
                    mujoco_warp.step(self._model, self._data)
            warp.synchronize()
        self.restore(before, torch.ones(self.count, dtype=torch.bool, device=self.qpos.device))
        self.deepest_contact_m()
        return capture.graph

    # ---- starting ----

    def reset(self, mask: Any, seeds: Sequence[int | None]) -> None:
        """Start the worlds where ``mask`` ``(n,)`` holds, each from its own of the ``n`` seeds.

        A seed is settled when it is first given, which takes the CPU a few milliseconds; the device keeps it. None
        draws one of those that it has, once there are ``AUTOMATIC_STARTS``. So a training loop that first resets
        with the seeds it wants and then with none never waits.

        Raises:
          ResipError: a seed has given no valid start in many tries.
        """
        wanted = np.ones(self.count, dtype=bool) if arrays.is_tensor(mask) else np.asarray(mask, dtype=bool)
        mask = arrays.like(mask, self.qpos, bool)
        rows = self._starts.rows(seeds, wanted)
        self._row = torch.where(mask, rows, self._row)
        self._steps = torch.where(mask, 0, self._steps)
        self.restore({name: values[rows] for name, values in self._starts.state.items()}, mask)
        self._hold(self._held | mask)

    # ---- stepping ----

    def push(self) -> None:
        """Kick what is hit now, as the CPU does from the same seed."""
        self._kick(slice(None), *self._starts.kicks(self._row, self._steps))

    def step(self, actions: Any) -> None:
        """Advance all worlds by one control step (0.1 s) with actions ``(count, 10)``.

        Raises:
          ResipError: contacts did not find room, in this step or one shortly before it: what followed is wrong.
        """
        super().step(actions)
        self._steps += 1
        self._alarm.check()

    def _advance(self, substeps: int) -> None:
        assert substeps == self._substeps
        # in torch's order: what it wrote before is read, what it reads next is written
        stream = warp.stream_from_torch(self.qpos.device) if self.qpos.is_cuda else None
        warp.capture_launch(self._graph, stream=stream)
        self._time_s += substeps * self.task.timestep_s

    def _on_substep(self, model: Any, data: Any) -> None:
        """Amend what Warp has worked out of the positions, before it computes forces of it."""
        if self._has_tendons:
            warp.launch(
                warp_kernels.follow_arms,
                dim=(self.count, _TENDONS),
                inputs=[self._rows, data.qpos, data.qvel, data.moment_rowadr],
                outputs=[data.actuator_moment, data.actuator_length, data.actuator_velocity],
            )
        warp.launch(
            warp_kernels.note_depths,
            dim=data.naconmax,
            inputs=[data.nacon, data.contact.dist, data.contact.worldid],
            outputs=[self._deepest],
        )

    # ---- when the physics fails ----

    def finite(self) -> torch.Tensor:
        """Which worlds' states are numbers, and were told numbers, ``(count,)``."""
        return super().finite() & self._ctrl.isfinite().all(dim=1)

    def deepest_contact_m(self) -> torch.Tensor:
        """Deepest penetration of each world ``(count,)``, positive, over all substeps since the last call."""
        deepest = warp.to_torch(self._deepest)
        depth_m = deepest.abs()
        deepest.zero_()
        return depth_m


class _Starts:
    """Starts by seed, as rows of tensors on the device, in the shape of a ``snapshot``."""

    def __init__(
        self, task: Task, level: Randomness, drive: Drive, threads: int, pushes: float, device: torch.device
    ) -> None:
        self._task, self._level, self._pushes, self._device = task, level, pushes, device
        self._make_worlds: Callable[[int], Worlds] = lambda count: Worlds(task, count, level, drive, threads)
        self._row_of: dict[int, int] = {}
        self.state: dict[str, torch.Tensor] = {}
        self._velocity_m_s = self._spin_rad_s = torch.zeros(0, device=device)

    def rows(self, seeds: Sequence[int | None], wanted: np.ndarray) -> torch.Tensor:
        """Rows ``(n,)`` of the seeds, a random one for None; where they are not ``wanted``, any."""
        needed = [seed for seed, want in zip(seeds, wanted, strict=True) if want]
        missing = list(dict.fromkeys(seed for seed in needed if seed is not None and seed not in self._row_of))
        if None in needed:
            lacking = max(0, AUTOMATIC_STARTS - len(self._row_of) - len(missing))
            missing += [int(seed) for seed in np.random.SeedSequence().generate_state(lacking)]
        if missing:
            self._settle(missing)
        drawn = torch.randint(len(self._row_of), (len(seeds),), device=self._device)
        known = torch.tensor([-1 if seed is None else self._row_of.get(seed, -1) for seed in seeds])
        if self._device.type == "cuda":
            known = known.pin_memory().to(self._device, non_blocking=True)
        return torch.where(known < 0, drawn, known)

    def _settle(self, seeds: list[int]) -> None:
        size = min(len(seeds), _SETTLED_AT_ONCE)
        worlds = self._make_worlds(size)
        tables = [self.state] if self.state else []
        for first in range(0, len(seeds), size):
            batch = seeds[first : first + size]
            worlds.reset(np.arange(size) < len(batch), batch + [0] * (size - len(batch)))
            snapshot = worlds.snapshot()
            tables.append({k: torch.as_tensor(v[: len(batch)], device=self._device) for k, v in snapshot.items()})
        self.state = {name: torch.cat([table[name] for table in tables]) for name in tables[0]}
        self._row_of |= {seed: len(self._row_of) + i for i, seed in enumerate(seeds)}
        if self._pushes:
            self._draw_kicks(seeds)

    def _draw_kicks(self, seeds: list[int]) -> None:
        """Draw the pushes of whole episodes: 60 kB a start of one_leg."""
        shape = (len(seeds), self._task.max_steps, len(self._task.parts))
        velocity_m_s, spin_rad_s = np.zeros((*shape, 3), dtype=np.float32), np.zeros(shape, dtype=np.float32)
        for i, seed in enumerate(seeds):
            draws = randomize.push_draws(seed)
            for step in range(self._task.max_steps):
                kick = randomize.push(self._level, self._pushes, draws)
                if kick is not None:
                    velocity_m_s[i, step], spin_rad_s[i, step] = kick
        drawn = (torch.as_tensor(velocity_m_s, device=self._device), torch.as_tensor(spin_rad_s, device=self._device))
        first = not len(self._spin_rad_s)
        self._velocity_m_s = drawn[0] if first else torch.cat([self._velocity_m_s, drawn[0]])
        self._spin_rad_s = drawn[1] if first else torch.cat([self._spin_rad_s, drawn[1]])

    def kicks(self, rows: torch.Tensor, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Changes of velocity ``(n, n_parts, 3)`` and spin ``(n, n_parts)`` at ``steps`` ``(n,)`` of the episodes."""
        steps = steps.clip(max=self._task.max_steps - 1)
        return self._velocity_m_s[rows, steps], self._spin_rad_s[rows, steps]


class _Alarm:
    """Tells the host that contacts did not find room, without making it wait: it reads a copy when that is there."""

    def __init__(self, overflow: torch.Tensor) -> None:
        self._overflow = overflow
        self._copy = torch.zeros(1, dtype=overflow.dtype, pin_memory=overflow.is_cuda)
        self._copied = torch.cuda.Event() if overflow.is_cuda else None

    def check(self) -> None:
        """Ask for a new copy when the last has arrived, and look at that.

        Raises:
          ResipError: it tells of an overflow.
        """
        if self._copied is not None and not self._copied.query():
            return
        lost = int(self._copy[0])
        if lost:
            raise ResipError(
                f"MuJoCo Warp ran out of room for contacts ({OverflowType(lost)!s}): "
                "raise CONTACTS_PER_WORLD or CONSTRAINTS_PER_WORLD in resip_training/sim/warp_worlds.py"
            )
        self._copy.copy_((self._overflow & _LOST).amax().reshape(1), non_blocking=True)
        if self._copied is not None:
            self._copied.record()


def _find_device(name: str) -> warp.Device:
    if name != "cpu" and not torch.cuda.is_available():
        raise ResipError(
            f"device {name!r}: torch {torch.__version__} sees no GPU; use --device cpu, or see that nvidia-smi lists "
            "one and that torch is its CUDA build"
        )
    try:
        return warp.get_device(name)
    except ValueError as error:
        valid = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
        raise ResipError(f"device {name!r} is not among {valid}") from error


def _for_warp(model: mujoco.MjModel) -> mujoco.MjModel:
    """The model with the flags that Warp wants."""
    # Warp never puts a state back by itself, and refuses to be told so
    model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    # boxes on boxes by MuJoCo's own analytic test: Warp's general convex one has reported false depths
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_NATIVECCD)
    return model
