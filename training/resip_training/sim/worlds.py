"""Many copies of a task's physics on the CPU: random starts that settle, and MuJoCo's batch that steps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import ArrayLike, NDArray
from resip import rotation
from resip.control import panda
from resip.errors import ResipError

from resip_training.sim import hold, randomize, robot, scene
from resip_training.sim.backend import FALLEN_BELOW_M, FINGERS, STATE_FIELDS, Backend, to_mujoco
from resip_training.sim.drive import Drive
from resip_training.sim.task import Randomness, Task

Ids = NDArray[np.int64]

#: Parts have stopped sliding well within this.
_SETTLE_S: Final = 1.0
#: Deeper contacts than this are parts that started inside one another; resting ones are shallower by far.
_OVERLAP_M: Final = 0.002
_MAX_TRIES: Final = 50
#: Memory of one more world of the largest task, in use (measured: 0.3 MB).
_WORLD_BYTES: Final = 400_000


class Worlds(Backend):
    """The backend of the CPU. The state's arrays are views of the batch: what is written there is simulated."""

    def __init__(
        self,
        task: Task,
        count: int,
        level: Randomness,
        drive: Drive = "impedance",
        threads: int = 1,
        pushes: float = 0.0,
        model: mujoco.MjModel | None = None,
    ) -> None:
        """Build the scene and the batch.

        Args:
          task: what to simulate.
          count: how many worlds.
          level: how far episodes start from the nominal layout.
          drive: how the arm answers (see ``drive``).
          threads: of the physics; 0 takes all cores.
          pushes: chance that ``push`` hits a part.
          model: the task's scene with other collision shapes; by default it is built.

        Raises:
          ResipError: the meshes' wheel is missing, or there is no memory for so many worlds.
        """
        _check_memory(task, count)
        built = scene.build(task, drive) if model is None else model
        # a part at rest sleeps until it is touched or moved: a third of the physics' time would go to such parts
        built.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP
        self.batch = Batch(built, count, threads, persistent=True)  # who sleeps is kept in each world's data
        super().__init__(
            task,
            level,
            built,
            state={name: self.batch.bind(name) for name in STATE_FIELDS},
            tendon_rows=self.batch.expand("wrap_prm") if drive == "impedance" else None,
            dofs={name: self.batch.expand(name) for name in hold.HELD} if task.held_part else {},
        )
        self._arm_geoms = _geoms_of(built, robot.MOVING_BODIES)
        self._view = mujoco.MjData(built)
        self._pushes = pushes
        self._push_draws = [np.random.default_rng(0) for _ in range(count)]

    # ---- starting ----

    def reset(self, mask: ArrayLike, seeds: Sequence[int]) -> None:
        """Start worlds from their seeds: kicked parts slide to rest; what overlaps then is drawn again.

        Args:
          mask: which worlds, ``(n,)``.
          seeds: one for each of the ``n``.

        Raises:
          ResipError: a seed has given no valid start in many tries.
        """
        mask = np.asarray(mask, dtype=bool)
        ids = np.flatnonzero(mask)
        draws = {i: np.random.default_rng(seeds[i]) for i in map(int, ids)}
        self._hold(self._held & ~mask)
        waiting = ids
        for _ in range(_MAX_TRIES):
            self.batch.reset(waiting, stage=mujoco.mjtStage.mjSTAGE_NONE)
            for i in waiting:
                self._place(int(i), draws[int(i)])
            self._settle(waiting)
            waiting = np.array([i for i in waiting if not self._valid_start(int(i))], dtype=np.int64)
            if not len(waiting):
                break
        else:
            raise ResipError(f"{self.task.name}: no start without overlapping parts in {_MAX_TRIES} tries")
        self._hold(self._held | mask)
        for i in draws:
            self._push_draws[i] = randomize.push_draws(seeds[i])

    def _place(self, i: int, rng: np.random.Generator) -> None:
        kick = randomize.sample(self.level, rng)
        self.qpos[i, FINGERS] = self.task.gripper_open_m / 2
        self.mocap_pos[i, 0] = self._nominal[-1, :3] + kick.obstacle_offset_m
        for k, (qpos, _) in enumerate(self._parts):
            turn = rotation.matrix_from_rotvec([0.0, 0.0, kick.part_yaw_rad[k]])
            matrix = turn @ rotation.matrix_from_quat(self._nominal[k, 3:])
            position = self._nominal[k, :3] + kick.part_offset_m[k]
            self.qpos[i, qpos] = to_mujoco(np.append(position, rotation.quat_from_matrix(matrix)))
        self._kick(i, kick.part_velocity_m_s, kick.part_spin_rad_s)
        self.qpos[i, : panda.DOF] = kick.joints_rad
        while self._arm_touches(i):
            self.qpos[i, : panda.DOF] = randomize.arm(self.level, rng)

    def _settle(self, ids: Ids) -> None:
        joints = self.qpos[:, : panda.DOF]
        self._servo.reset(joints[ids], self._time_s[ids].copy(), ids)
        self._fingers.reset(ids)
        self._arm.command(joints.copy(), joints)
        self._ctrl[ids, -2:] = self.task.gripper_open_m / 2
        self.batch.step(ids, nstep=round(_SETTLE_S / self.task.timestep_s))
        self._servo.reset(joints[ids], self._time_s[ids].copy(), ids)

    def _contacts(self, i: int) -> Any:
        """Contacts of world ``i`` in its present positions; None if those are not numbers."""
        view = self.posed(i)
        mujoco.mj_collision(self.model, view)
        return view.contact

    def _arm_touches(self, i: int) -> bool:
        return bool(np.isin(self._contacts(i).geom, self._arm_geoms).any())

    def _valid_start(self, i: int) -> bool:
        contact = self._contacts(i)
        on_table = all(self.qpos[i, qpos][2] > FALLEN_BELOW_M for qpos, _ in self._parts)
        apart = not len(contact.dist) or contact.dist.min() > -_OVERLAP_M
        return bool(on_table and apart and not np.isin(contact.geom, self._arm_geoms).any())

    # ---- stepping ----

    def push(self) -> None:
        """Kick what is hit now: each part by chance, as hard as at the start of an episode."""
        for i, draws in enumerate(self._push_draws):
            kick = randomize.push(self.level, self._pushes, draws)
            if kick is not None:
                self._kick(i, *kick)

    def _release_near(self) -> None:
        if self._held.any():
            super()._release_near()

    def _advance(self, substeps: int) -> None:
        self.batch.step(nstep=substeps)

    # ---- what is seen ----

    def posed(self, i: int) -> mujoco.MjData:
        """World ``i`` as an MjData with current positions, valid until the next call."""
        self._view.qpos[:], self._view.mocap_pos[:] = self.qpos[i], self.mocap_pos[i]
        mujoco.mj_kinematics(self.model, self._view)
        mujoco.mj_comPos(self.model, self._view)
        mujoco.mj_camlight(self.model, self._view)
        return self._view

    def restore(self, state: Mapping[str, Any], mask: Any) -> None:
        """Put the worlds where ``mask`` ``(count,)`` holds back to where a ``snapshot`` of as many was taken.

        Every part is awake then: one that slept may settle by some micrometres.
        """
        self.batch.reset(np.flatnonzero(mask), stage=mujoco.mjtStage.mjSTAGE_NONE)
        super().restore(state, mask)


def _check_memory(task: Task, count: int) -> None:
    free = available_bytes()
    if count * _WORLD_BYTES > free:
        raise ResipError(
            f"{count} worlds of {task.name} need {count * _WORLD_BYTES / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB "
            f"are free: at most {free // _WORLD_BYTES} fit"
        )


def available_bytes() -> int:
    """Memory that this machine can still give out without swapping."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024


def _geoms_of(model: mujoco.MjModel, bodies: tuple[str, ...]) -> NDArray[np.int64]:
    return np.flatnonzero(np.isin(model.geom_bodyid, [model.body(name).id for name in bodies]))
