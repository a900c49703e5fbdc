"""The Panda of the scene: bodies from the wheel's URDF, lean collision geometry, hand and drives."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Final

import mujoco
import numpy as np
from resip import spaces
from resip.control import panda

from resip_training.sim import assets
from resip_training.sim.collision import FINGER, HAND

EE_SITE: Final = "ee"
ARM_BODIES: Final = tuple(f"panda_link{i}" for i in range(8))
FINGER_BODIES: Final = ("panda_leftfinger", "panda_rightfinger")
#: The bodies that have collision geometry.
MOVING_BODIES: Final = ("panda_hand", *FINGER_BODIES)

_ARMATURE_KG_M2: Final = 0.1  # the motors' inertia at the joints; the URDF has none
_JOINT_DAMPING: Final = 0.1

_HAND_MASS_KG, _FINGER_MASS_KG = 0.73, 0.015  # Franka hand: not in the URDF


def _bare_urdf() -> str:
    """The wheel's URDF without meshes: bodies, joints and inertias only."""
    root = ElementTree.fromstring(assets.panda_urdf().read_text())
    for link in root.iter("link"):
        for tag in ("visual", "collision"):
            for element in link.findall(tag):
                link.remove(element)
    for joint in root.iter("joint"):
        for mimic in joint.findall("mimic"):
            joint.remove(mimic)
    compiler = ElementTree.SubElement(ElementTree.SubElement(root, "mujoco"), "compiler")
    compiler.set("fusestatic", "false")
    compiler.set("discardvisual", "false")
    return ElementTree.tostring(root, encoding="unicode")


def load() -> mujoco.MjSpec:
    """A spec with the arm, hand and fingers, gravity compensated, without drives.

    Its base frame is the world. The site ``ee`` is the contract's fingertip frame.

    Raises:
      ResipError: the meshes' wheel is not installed.
    """
    spec = mujoco.MjSpec.from_string(_bare_urdf())
    for body in spec.bodies:
        body.gravcomp = 1.0
    for name in [body.name for body in spec.bodies if body.name.endswith("_sc") or body.name == "k_ee_link"]:
        spec.delete(spec.body(name))
    _complete_hand(spec)
    for name in panda.JOINT_NAMES:
        joint = spec.joint(name)
        joint.armature = _ARMATURE_KG_M2
        joint.damping = [_JOINT_DAMPING, 0.0, 0.0]
        joint.frictionloss = 0.0
    return spec


def _set_inertia(body: mujoco.MjsBody, mass_kg: float, com_m: tuple[float, ...], inertia: tuple[float, ...]) -> None:
    body.mass, body.ipos, body.inertia = mass_kg, com_m, inertia
    body.explicitinertial = True


def _complete_hand(spec: mujoco.MjSpec) -> None:
    hand = spec.body("panda_hand")
    _set_inertia(hand, _HAND_MASS_KG, (-0.01, 0.0, 0.03), (0.001, 0.0025, 0.0017))
    hand.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, pos=(0.0, 0.0, 0.02), size=(0.0316, 0.102, 0.046), **HAND.geom_fields()
    )
    for name, side in zip(FINGER_BODIES, (1, -1), strict=True):
        finger = spec.body(name)
        _set_inertia(finger, _FINGER_MASS_KG, (0.0, side * 0.01, 0.03), (2.4e-6, 2.4e-6, 7.5e-7))
        _add_finger_boxes(finger, side)
    for name in panda.FINGER_NAMES:
        joint = spec.joint(name)
        joint.damping, joint.frictionloss = [1.0, 0.0, 0.0], 0.0
        joint.armature = 0.05
    link8_to_hand = spaces.EE_OFFSET_FROM_FLANGE_M  # the hand's frame is link8 turned by -45 degrees already
    hand.add_site(name=EE_SITE, pos=(0.0, 0.0, link8_to_hand), group=4)
    # the hand's two fingers are one mechanism
    equality = spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT, name1=panda.FINGER_NAMES[0], name2=panda.FINGER_NAMES[1], solref=(0.008, 1.0)
    )
    equality.data[:5] = (0.0, 1.0, 0.0, 0.0, 0.0)
    equality.objtype = mujoco.mjtObj.mjOBJ_JOINT


def _add_finger_boxes(finger: mujoco.MjsBody, side: int) -> None:
    """The URDF's collision boxes of a finger: rubber tip, diagonal and mount."""
    box = mujoco.mjtGeom.mjGEOM_BOX
    half_tilt = side * np.deg2rad(15.0)
    finger.add_geom(
        type=box, pos=(0.0, side * 0.00758, 0.04525), size=(0.00875, 0.0076, 0.00925), **FINGER.geom_fields()
    )
    finger.add_geom(
        type=box,
        pos=(0.0, side * 0.0159, 0.02835),
        quat=(np.cos(half_tilt), np.sin(half_tilt), 0.0, 0.0),
        size=(0.00875, 0.0035, 0.01175),
        **FINGER.geom_fields(),
    )
    finger.add_geom(type=box, pos=(0.0, side * 0.0185, 0.011), size=(0.011, 0.0075, 0.010), **FINGER.geom_fields())
