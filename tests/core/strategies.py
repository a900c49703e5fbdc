"""Random rotations and arm configurations for the property tests."""

import numpy as np
from hypothesis import strategies as st
from resip import rotation
from resip.control import panda

components = st.floats(-1.0, 1.0, allow_nan=False, width=64)

#: Angles that matter: everywhere, and close to the two ends where formulas divide by nearly nothing.
angles_rad = st.one_of(
    st.floats(0.0, np.pi),
    st.floats(0.0, 1e-6),
    st.floats(0.0, 1e-6).map(lambda small: np.pi - small),
    st.sampled_from([0.0, 1e-12, 1e-8, np.pi / 2, np.pi - 1e-8, np.pi]),
)

#: Unit vectors, the axes themselves among them.
unit_vectors = st.one_of(
    st.sampled_from([np.array(axis) for axis in np.eye(3)]),
    st.tuples(components, components, components)
    .filter(lambda v: np.linalg.norm(v) > 1e-3)
    .map(lambda v: np.array(v) / np.linalg.norm(v)),
)

#: Rotation vectors (rad) of length 0 to pi.
rotvecs = st.builds(lambda axis, angle: axis * angle, unit_vectors, angles_rad)

#: Rotation matrices.
matrices = rotvecs.map(rotation.matrix_from_rotvec)


def joints(margin_rad: float = 0.0):
    """Joint positions (7,) in rad, ``margin_rad`` within the URDF's limits."""
    ranges = zip(panda.HARD_LOWER_RAD + margin_rad, panda.HARD_UPPER_RAD - margin_rad, strict=True)
    return st.tuples(*(st.floats(float(low), float(high)) for low, high in ranges)).map(np.array)
