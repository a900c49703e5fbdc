"""Gains of the joint impedance controller: one home for the robot, the simulated server and training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImpedanceGains:
    """Hybrid joint and Cartesian impedance, all diagonal, acting on the joint error ``q_d - q``.

    ``tau = (J' Kx J + Kq)(q_d - q) - (J' Kxd J + Kqd) qd`` with ``J`` the flange's (panda_link8) Jacobian.
    Defaults: the paper's real-robot code (Kq, Kqd) with Polymetis' Cartesian gains (Kx, Kxd).
    """

    joint_stiffness: tuple[float, ...] = (150.0, 120.0, 160.0, 100.0, 110.0, 100.0, 40.0)
    """Kq, N m/rad."""
    joint_damping: tuple[float, ...] = (20.0, 20.0, 20.0, 20.0, 12.0, 12.0, 8.0)
    """Kqd, N m s/rad."""
    cartesian_stiffness: tuple[float, ...] = (750.0, 750.0, 750.0, 15.0, 15.0, 15.0)
    """Kx: x, y, z in N/m, then rotations in N m/rad, base axes."""
    cartesian_damping: tuple[float, ...] = (37.0, 37.0, 37.0, 2.0, 2.0, 2.0)
    """Kxd: N s/m, then N m s/rad."""
