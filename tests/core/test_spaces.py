"""The contract between training and deployment."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resip import spaces
from strategies import components, matrices

vectors = st.tuples(components, components, components).map(np.array)


@given(vectors, matrices, vectors, vectors, st.floats(0.0, 0.08))
def test_a_state_has_each_quantity_where_the_contract_says(position, matrix, linear, angular, width_m):
    state = spaces.pack_state(position, matrix, linear, angular, width_m)

    assert state.shape == (spaces.STATE_DIM,)
    np.testing.assert_array_equal(state[spaces.STATE_POSITION], position)
    np.testing.assert_array_equal(state[spaces.STATE_ROT6D], np.concatenate([matrix[0], matrix[1]]))
    np.testing.assert_array_equal(state[spaces.STATE_LINEAR_VELOCITY], linear)
    np.testing.assert_array_equal(state[spaces.STATE_ANGULAR_VELOCITY], angular)
    np.testing.assert_array_equal(state[spaces.STATE_GRIPPER_WIDTH], [width_m])


@given(vectors, matrices, st.sampled_from([spaces.GRIPPER_CLOSE, spaces.GRIPPER_OPEN]))
def test_an_action_decodes_to_what_was_packed(position, matrix, gripper):
    action = spaces.pack_action(position, matrix, gripper)
    pose = spaces.action_pose(action)

    assert action.shape == (spaces.ACTION_DIM,)
    np.testing.assert_array_equal(pose.position, position)
    np.testing.assert_allclose(pose.matrix, matrix, rtol=0.0, atol=1e-12)
    np.testing.assert_array_equal(spaces.gripper_command(action), gripper)


def test_states_and_actions_are_batched():
    eyes = np.broadcast_to(np.eye(3), (4, 5, 3, 3))
    zeros = np.zeros((4, 5, 3))

    assert spaces.pack_state(zeros, eyes, zeros, zeros, np.zeros((4, 5))).shape == (4, 5, 16)
    actions = spaces.pack_action(zeros, eyes, np.ones((4, 5)))
    assert actions.shape == (4, 5, 10)
    assert spaces.action_pose(actions).matrix.shape == (4, 5, 3, 3)
    assert spaces.gripper_command(actions).shape == (4, 5)


@pytest.mark.parametrize(("entry", "command"), [(0.3, 1.0), (1.0, 1.0), (0.0, -1.0), (-0.2, -1.0)])
def test_the_gripper_entry_closes_when_positive_and_opens_otherwise(entry, command):
    assert spaces.gripper_command(spaces.pack_action(np.zeros(3), np.eye(3), entry)) == command


def test_an_action_of_another_length_is_refused_with_both_lengths():
    with pytest.raises(ValueError, match=r"10 numbers, got shape \(7,\)"):
        spaces.action_pose(np.zeros(7))


def test_an_action_whose_rotation_is_degenerate_is_refused():
    with pytest.raises(ValueError, match="zero length"):
        spaces.action_pose(np.zeros(10))


class TestContract:
    @pytest.mark.parametrize("observation", ["state", "image"])
    def test_it_survives_a_manifest(self, observation):
        contract = spaces.contract(observation)
        assert json.loads(json.dumps(contract)) == contract

    def test_the_field_widths_add_up_to_the_dimensions(self):
        contract = spaces.contract("image")
        for key, dimension in (("state", spaces.STATE_DIM), ("action", spaces.ACTION_DIM)):
            assert sum(int(field.partition(":")[2].split()[0]) for field in contract[key]) == dimension

    def test_policies_on_images_and_on_states_differ_in_what_they_observe_only(self):
        image, state = spaces.contract("image"), spaces.contract("state")
        assert set(image) ^ set(state) == {"cameras", "image", "part_pose"}
        assert {key for key in set(image) & set(state) if image[key] != state[key]} == {"observation"}
