"""What runs on the device inside a substep: written in Python, compiled by Warp."""
# Warp's types are not Python's.
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false, reportCallIssue=false

from typing import Final

import warp
from resip.control import panda

from resip_training.sim.drive import TENDON_DRIVES

warp.set_module_options({"enable_backward": False})

_FIRST_TENDON: Final = TENDON_DRIVES.start


@warp.kernel
def follow_arms(
    rows: warp.array3d[float],
    qpos: warp.array2d[float],
    qvel: warp.array2d[float],
    first_entry: warp.array2d[int],
    moment: warp.array2d[float],
    length: warp.array2d[float],
    velocity: warp.array2d[float],
) -> None:
    """Give each world's Cartesian tendons that world's coefficients; Warp's model has one set for all worlds."""
    world, tendon = warp.tid()
    actuator = warp.static(_FIRST_TENDON) + tendon
    entry = first_entry[world, actuator]
    along, speed = warp.float32(0.0), warp.float32(0.0)
    for joint in range(warp.static(panda.DOF)):
        coefficient = rows[world, tendon, joint]
        moment[world, entry + joint] = coefficient
        along += coefficient * qpos[world, joint]
        speed += coefficient * qvel[world, joint]
    length[world, actuator] = along
    velocity[world, actuator] = speed


@warp.kernel
def note_depths(
    contacts: warp.array[int], distance: warp.array[float], world: warp.array[int], deepest: warp.array[float]
) -> None:
    """Keep each world's smallest contact distance."""
    i = warp.tid()
    if i < contacts[0]:
        warp.atomic_min(deepest, world[i], distance[i])
