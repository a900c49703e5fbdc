"""The arm's kinematics as URDF text: what a robot client's metadata carries."""

from __future__ import annotations

import math
from typing import Final

from resip import spaces
from resip.control import panda
from resip.polymetis import hardware

_JOINT: Final = """  <joint name="{name}" type="revolute">
    <origin rpy="{roll:.17g} 0 0" xyz="{x:.17g} {y:.17g} {z:.17g}"/>
    <parent link="panda_link{parent}"/>
    <child link="panda_link{child}"/>
    <axis xyz="0 0 1"/>
    <limit effort="{effort:g}" lower="{lower:g}" upper="{upper:g}" velocity="{velocity:g}"/>
  </joint>"""
_FLANGE: Final = """  <joint name="panda_joint8" type="fixed">
    <origin rpy="0 0 0" xyz="0 0 {z:g}"/>
    <parent link="panda_link7"/>
    <child link="{child}"/>
  </joint>"""


def kinematic_urdf() -> str:
    """Links and joints from ``panda_link0`` to ``panda_link8``, without masses or meshes."""
    lines = ['<?xml version="1.0"?>', '<robot name="panda">']
    lines += [f'  <link name="{name}"/>' for name in _link_names()]
    for index, transform in enumerate(panda.FIXED_TRANSFORMS):
        x, y, z = (float(value) for value in transform[:3, 3])
        lines.append(
            _JOINT.format(
                name=panda.JOINT_NAMES[index],
                roll=math.atan2(transform[2, 1], transform[2, 2]),
                x=x,
                y=y,
                z=z,
                parent=index,
                child=index + 1,
                effort=panda.EFFORT_NM[index],
                lower=panda.LOWER_RAD[index],
                upper=panda.UPPER_RAD[index],
                velocity=panda.VELOCITY_RAD_S[index],
            )
        )
    lines += [_FLANGE.format(z=panda.FLANGE_OFFSET_M, child=hardware.EE_LINK_NAME), "</robot>", ""]
    return "\n".join(lines)


def _link_names() -> list[str]:
    return [spaces.BASE_FRAME, *(f"panda_link{i}" for i in range(1, panda.DOF + 1)), hardware.EE_LINK_NAME]
