"""The controllers that run inside the server, as TorchScript modules in float32.

Only operators that libtorch 1.13 has, few and small: a step of the impedance law is to fit easily into the
1 kHz loop of the control PC. The server calls ``forward`` every step, ``is_terminated`` after it, ``update``
on new parameters and, on the default controller alone, ``reset``. It reuses the tensors of the state, so
what is kept is cloned. Scripted code cannot resolve postponed annotations, hence none in this file.

Left out on purpose: the Coriolis torque of the original hybrid law. It needs the arm's inertias, is at most
1.2 Nm with all joints at 0.5 rad/s (4.8 Nm at 1 rad/s), and assembly moves slower than that.
"""

import math

import torch
from torch import Tensor, nn

from resip.control import panda

#: Share of the last torque that each step with an unreadable state keeps: gone in about 20 ms at 1 kHz.
_TORQUE_DECAY = 0.9
#: Longest control period (s) that the set point may cover in one step: after a gap the arm does not jump.
_LONGEST_STEP_S = 0.02


def _joint_transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Tensors ``(7, 4, 4)`` A, B, C with joint transforms ``A + cos(q) B + sin(q) C``."""
    fixed = torch.as_tensor(panda.FIXED_TRANSFORMS, dtype=torch.float32)
    still, cos, sin = torch.zeros_like(fixed), torch.zeros_like(fixed), torch.zeros_like(fixed)
    still[:, :, 2:] = fixed[:, :, 2:]
    cos[:, :, :2] = fixed[:, :, :2]
    sin[:, :, 0], sin[:, :, 1] = fixed[:, :, 1], -fixed[:, :, 0]
    return still, cos, sin


class HybridImpedance(nn.Module):
    """Joint and Cartesian impedance about a moving joint set point.

    ``tau = (J' Kx J + Kq)(q_des - q) - (J' Kxd J + Kqd) qd``, J at ``panda_link8`` in base axes. The set point
    starts where the arm is, goes to each new target in a straight line over ``interpolation_s``, never faster
    than ``slew``. When no update has come for ``watchdog_s`` it goes to where the arm, which lags behind it, comes to
    rest soonest: ``brake_s`` ahead of where it is, at its speed; and stays there. Time is the state's.

    ``update`` takes any of ``joint_pos_desired`` (rad), ``Kq``, ``Kqd``, ``Kx``, ``Kxd``, and refuses the
    whole of it, changing nothing, if a name, a size or a number is wrong. An unreadable state (not finite)
    fades the last torque out and leaves the set point. The output has ``joint_pos_commanded`` beside
    ``joint_torques``; servers ignore it.
    """

    Kq: Tensor
    Kqd: Tensor
    Kx: Tensor
    Kxd: Tensor
    torque_limit: Tensor
    slew: Tensor
    still: Tensor
    cos: Tensor
    sin: Tensor
    goal: Tensor
    commanded: Tensor
    torques: Tensor

    def __init__(
        self,
        gains: dict[str, Tensor],
        torque_limit: Tensor,
        slew: Tensor,
        interpolation_s: float,
        watchdog_s: float,
        brake_s: float,
    ) -> None:
        super().__init__()
        buffers = dict(gains, torque_limit=torque_limit, slew=slew)
        buffers["still"], buffers["cos"], buffers["sin"] = _joint_transforms()
        for name in ("goal", "commanded", "torques"):
            buffers[name] = torch.zeros(panda.DOF)
        for name, value in buffers.items():
            self.register_buffer(name, value)
        self.flange_m = panda.FLANGE_OFFSET_M
        self.interpolation_s = interpolation_s
        self.watchdog_s = watchdog_s
        self.brake_s = brake_s
        self.longest_step_s = _LONGEST_STEP_S
        self.torque_decay = _TORQUE_DECAY
        self.started = False
        self.updated = False
        self.braked = False
        self.remaining_s = 0.0
        self.silent_s = 0.0
        self.last_seconds = 0
        self.last_nanos = 0

    def _elapsed_s(self, timestamp: Tensor) -> float:
        stamp: list[int] = timestamp.long().tolist()
        elapsed = float(stamp[0] - self.last_seconds) + 1e-9 * float(stamp[1] - self.last_nanos)
        self.last_seconds, self.last_nanos = stamp[0], stamp[1]
        return max(elapsed, 0.0) if self.started else 0.0

    def _advance(self, elapsed_s: float, q: Tensor, qd: Tensor) -> None:
        """Move the set point towards the goal, or brake when updates have stopped."""
        self.silent_s += elapsed_s
        if self.updated:
            self.updated = False
            self.silent_s = 0.0
            self.remaining_s = self.interpolation_s
            self.braked = False
        if self.silent_s > self.watchdog_s and not self.braked:
            self.braked = True
            self.goal = q + self.brake_s * qd
            self.remaining_s = self.interpolation_s
        step_s = min(elapsed_s, self.longest_step_s)
        fraction = 1.0 if self.remaining_s <= step_s else step_s / self.remaining_s
        self.remaining_s = max(self.remaining_s - step_s, 0.0)
        limit = self.slew * step_s
        change = (self.goal - self.commanded) * fraction
        self.commanded = self.commanded + torch.maximum(torch.minimum(change, limit), -limit)

    def _transposed_jacobian(self, q: Tensor) -> Tensor:
        """Rows ``(7, 6)``: linear, angular velocity of the flange per joint, base axes."""
        cosines, sines = torch.cos(q).view(7, 1, 1), torch.sin(q).view(7, 1, 1)
        joints = torch.unbind(self.still + cosines * self.cos + sines * self.sin)
        frame = joints[0]
        frames = [frame]
        for joint in joints[1:]:
            frame = torch.matmul(frame, joint)
            frames.append(frame)
        chain = torch.stack(frames)
        axes, origins = chain[:, :3, 2], chain[:, :3, 3]
        flange = origins[6] + self.flange_m * axes[6]
        return torch.cat([torch.linalg.cross(axes, flange - origins), axes], 1)

    def forward(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Torques ``(7,)`` in Nm for a state of the arm; gravity is the robot's own matter."""
        q, qd = state["joint_positions"], state["joint_velocities"]
        elapsed_s = self._elapsed_s(state["timestamp"])
        if not math.isfinite(float(torch.dot(q, q) + torch.dot(qd, qd))):
            self.torques = self.torques * self.torque_decay
            return {"joint_torques": self.torques, "joint_pos_commanded": self.commanded}
        if not self.started:
            self.started = True
            self.commanded = q.clone()
            if not self.updated:
                self.goal = self.commanded
        self._advance(elapsed_s, q, qd)
        error = self.commanded - q
        jacobian_t = self._transposed_jacobian(q)
        jacobian = jacobian_t.t()
        wrench = self.Kx * torch.mv(jacobian, error) - self.Kxd * torch.mv(jacobian, qd)
        torques = torch.mv(jacobian_t, wrench) + self.Kq * error - self.Kqd * qd
        self.torques = torch.maximum(torch.minimum(torques, self.torque_limit), -self.torque_limit)
        return {"joint_torques": self.torques, "joint_pos_commanded": self.commanded}

    def _check(self, name: str, value: Tensor) -> None:
        sizes = {"joint_pos_desired": 7, "Kq": 7, "Kqd": 7, "Kx": 6, "Kxd": 6}
        if name not in sizes:
            raise ValueError(f"unknown parameter {name}: choose from {list(sizes.keys())}")
        if value.numel() != sizes[name]:
            raise ValueError(f"{name} needs {sizes[name]} numbers, got {value.numel()}")
        if not math.isfinite(float(torch.sum(value))):
            raise ValueError(f"{name} is not finite")
        if name != "joint_pos_desired" and float(torch.min(value)) < 0.0:
            raise ValueError(f"{name} is negative")

    @torch.jit.export
    def update(self, params: dict[str, Tensor]) -> None:
        """Take a new target or new gains, all or nothing."""
        for name, value in params.items():
            self._check(name, value)
        if "joint_pos_desired" in params:
            self.goal = params["joint_pos_desired"].clone().float().view(7)
            self.updated = True
        if "Kq" in params:
            self.Kq = params["Kq"].clone().float().view(7)
        if "Kqd" in params:
            self.Kqd = params["Kqd"].clone().float().view(7)
        if "Kx" in params:
            self.Kx = params["Kx"].clone().float().view(6)
        if "Kxd" in params:
            self.Kxd = params["Kxd"].clone().float().view(6)

    @torch.jit.export
    def reset(self) -> None:
        """Take the next measured joints as set point, as at the start."""
        self.started = False
        self.updated = False

    @torch.jit.export
    def is_terminated(self) -> bool:
        """Never: the bridge ends it, or the server."""
        return False


class JointHold(nn.Module):
    """Default controller: a joint spring to where the arm was at the first step after ``reset``."""

    Kq: Tensor
    Kqd: Tensor
    held: Tensor

    def __init__(self, Kq: Tensor, Kqd: Tensor) -> None:
        super().__init__()
        self.register_buffer("Kq", Kq)
        self.register_buffer("Kqd", Kqd)
        self.register_buffer("held", torch.zeros_like(Kq))
        self.started = False

    def forward(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Torques ``(7,)`` in Nm that hold the arm."""
        q = state["joint_positions"]
        if not self.started:
            self.started = True
            self.held = q.clone()
        return {"joint_torques": self.Kq * (self.held - q) - self.Kqd * state["joint_velocities"]}

    @torch.jit.export
    def reset(self) -> None:
        """Hold where the arm is at the next step."""
        self.started = False

    @torch.jit.export
    def is_terminated(self) -> bool:
        """Never."""
        return False


class Parameters(nn.Module):
    """An update's archive: ``forward`` gives what ``update`` of the running controller takes."""

    value: Tensor

    def __init__(self, name: str, value: Tensor) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("value", value)

    def forward(self) -> dict[str, Tensor]:
        """The one parameter, by name."""
        return {self.name: self.value}
