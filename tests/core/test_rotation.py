"""Rotations: the axioms of SO(3), and that every representation says the same rotation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resip import rotation
from strategies import angles_rad, matrices, rotvecs, unit_vectors

TIGHT = {"rtol": 0.0, "atol": 1e-12}


def assert_is_rotation(matrix):
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), **TIGHT)
    np.testing.assert_allclose(np.linalg.det(matrix), 1.0, **TIGHT)


class TestGroup:
    @given(matrices, matrices)
    def test_closure(self, a, b):
        assert_is_rotation(a @ b)

    @given(matrices)
    def test_identity(self, a):
        identity = rotation.matrix_from_rotvec(np.zeros(3))
        np.testing.assert_array_equal(identity, np.eye(3))
        np.testing.assert_array_equal(a @ identity, a)

    @given(matrices)
    def test_inverse(self, a):
        quat = rotation.quat_from_matrix(a)
        np.testing.assert_allclose(rotation.matrix_from_quat(rotation.quat_inverse(quat)), a.T, **TIGHT)
        np.testing.assert_allclose(
            rotation.quat_multiply(quat, rotation.quat_inverse(quat)), [0.0, 0.0, 0.0, 1.0], **TIGHT
        )

    @given(matrices, matrices, matrices)
    def test_associativity(self, a, b, c):
        qa, qb, qc = (rotation.quat_from_matrix(matrix) for matrix in (a, b, c))
        left = rotation.quat_multiply(rotation.quat_multiply(qa, qb), qc)
        right = rotation.quat_multiply(qa, rotation.quat_multiply(qb, qc))
        np.testing.assert_allclose(left, right, **TIGHT)

    @given(matrices, matrices)
    def test_the_quaternion_product_is_the_matrix_product(self, a, b):
        product = rotation.quat_multiply(rotation.quat_from_matrix(a), rotation.quat_from_matrix(b))
        np.testing.assert_allclose(rotation.matrix_from_quat(product), a @ b, **TIGHT)


class TestRoundTrips:
    @given(matrices)
    def test_quaternion(self, matrix):
        quat = rotation.quat_from_matrix(matrix)
        assert quat[3] >= 0
        np.testing.assert_allclose(np.linalg.norm(quat), 1.0, **TIGHT)
        np.testing.assert_allclose(rotation.matrix_from_quat(quat), matrix, **TIGHT)

    @given(matrices)
    def test_6d(self, matrix):
        np.testing.assert_allclose(rotation.matrix_from_rot6d(rotation.rot6d_from_matrix(matrix)), matrix, **TIGHT)

    @given(matrices)
    def test_rotation_vector(self, matrix):
        rotvec = rotation.rotvec_from_matrix(matrix)
        assert np.linalg.norm(rotvec) <= np.pi + 1e-12
        np.testing.assert_allclose(rotation.matrix_from_rotvec(rotvec), matrix, **TIGHT)

    @given(rotvecs)
    def test_the_logarithm_undoes_the_exponential(self, rotvec):
        back = rotation.rotvec_from_matrix(rotation.matrix_from_rotvec(rotvec))
        if np.pi - np.linalg.norm(rotvec) < 1e-6:  # either axis of a half turn will do
            back = back * np.sign(back @ rotvec)
        np.testing.assert_allclose(back, rotvec, rtol=0.0, atol=1e-9)

    @given(unit_vectors, angles_rad)
    def test_axis_and_angle_of_any_axis_length(self, axis, angle_rad):
        matrix = rotation.matrix_from_axis_angle(5.0 * axis, angle_rad)
        np.testing.assert_allclose(matrix, rotation.matrix_from_rotvec(axis * angle_rad), **TIGHT)
        np.testing.assert_allclose(matrix @ axis, axis, **TIGHT)

    def test_a_quarter_turn_about_z_takes_x_to_y(self):
        quarter = rotation.matrix_from_axis_angle([0.0, 0.0, 1.0], np.pi / 2)
        np.testing.assert_allclose(quarter @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], **TIGHT)
        np.testing.assert_allclose(rotation.quat_from_matrix(quarter), [0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)], **TIGHT)
        np.testing.assert_allclose(rotation.rot6d_from_matrix(quarter), [0, -1, 0, 1, 0, 0], **TIGHT)


class TestSignOfAQuaternion:
    @given(matrices, matrices)
    def test_both_signs_are_the_same_rotation(self, a, reference):
        quat = rotation.quat_from_matrix(a)
        chosen = rotation.quat_in_hemisphere(-quat, rotation.quat_from_matrix(reference))
        np.testing.assert_allclose(rotation.matrix_from_quat(chosen), a, **TIGHT)

    @given(matrices, matrices)
    def test_the_chosen_one_lies_on_the_references_side(self, a, reference):
        side = rotation.quat_from_matrix(reference)
        assert rotation.quat_in_hemisphere(rotation.quat_from_matrix(a), side) @ side >= 0

    def test_it_is_continuous_where_w_changes_sign(self):
        half_turn = np.array([1.0, 0.0, 0.0, 0.0])
        before, after = (rotation.matrix_from_rotvec([angle_rad, 0, 0]) for angle_rad in (np.pi - 1e-6, np.pi + 1e-6))
        jump = [rotation.quat_in_hemisphere(rotation.quat_from_matrix(m), half_turn) for m in (before, after)]
        np.testing.assert_allclose(jump[0], jump[1], rtol=0.0, atol=2e-6)


class TestDecoding6d:
    @given(matrices, st.floats(0.1, 10.0), st.floats(0.1, 10.0), st.floats(-3.0, 3.0))
    def test_scaled_and_sheared_rows_mean_the_same_rotation(self, matrix, first, second, shear):
        rows = np.concatenate([first * matrix[0], second * matrix[1] + shear * matrix[0]])
        np.testing.assert_allclose(rotation.matrix_from_rot6d(rows), matrix, rtol=0.0, atol=1e-10)

    @pytest.mark.parametrize("rows", [[0, 0, 0, 0, 1, 0], [1, 0, 0, 2, 0, 0], [1, 0, 0, 0, 0, 0]])
    def test_rows_that_span_no_plane_are_refused(self, rows):
        with pytest.raises(ValueError, match="zero length"):
            rotation.matrix_from_rot6d(rows)


class TestDistance:
    @given(matrices, unit_vectors, angles_rad)
    def test_the_angle_between_is_the_angle_turned(self, a, axis, angle_rad):
        b = a @ rotation.matrix_from_axis_angle(axis, angle_rad)
        np.testing.assert_allclose(rotation.angle_between(a, b), angle_rad, rtol=0.0, atol=1e-9)

    @given(matrices, matrices)
    def test_it_is_symmetric(self, a, b):
        np.testing.assert_allclose(rotation.angle_between(a, b), rotation.angle_between(b, a), rtol=0.0, atol=1e-9)

    @given(matrices, matrices, st.floats(0.0, 1.0))
    def test_interpolation_goes_that_share_of_the_way(self, a, b, fraction):
        part = rotation.interpolate(a, b, fraction)
        whole = rotation.angle_between(a, b)
        np.testing.assert_allclose(rotation.angle_between(a, part), fraction * whole, rtol=0.0, atol=1e-9)
        np.testing.assert_allclose(rotation.angle_between(part, b), (1 - fraction) * whole, rtol=0.0, atol=1e-9)


class TestBatches:
    @pytest.mark.parametrize(
        ("function", "trailing"),
        [
            (rotation.matrix_from_quat, (4,)),
            (rotation.matrix_from_rot6d, (6,)),
            (rotation.matrix_from_rotvec, (3,)),
            (rotation.quat_from_matrix, (3, 3)),
            (rotation.rot6d_from_matrix, (3, 3)),
            (rotation.rotvec_from_matrix, (3, 3)),
        ],
    )
    def test_a_batch_is_its_members(self, function, trailing):
        rng = np.random.default_rng(0)
        batch = rng.normal(size=(2, 3, *trailing))
        if trailing == (3, 3):
            batch = rotation.matrix_from_rotvec(rng.normal(size=(2, 3, 3)))
        out = function(batch)
        for index in np.ndindex(2, 3):
            np.testing.assert_array_equal(out[index], function(batch[index]))

    def test_a_wrong_shape_is_refused_with_what_was_expected(self):
        with pytest.raises(ValueError, match=r"expected trailing shape \(4,\), got an array of shape \(2, 3\)"):
            rotation.matrix_from_quat(np.zeros((2, 3)))
