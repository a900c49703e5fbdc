"""A picture that stands still while the hand moves is no picture."""

import numpy as np
from resip.policy.frozen import MOVED_M, FrozenCheck

HERE = np.zeros(3)
THERE = np.array([MOVED_M * 1.1, 0.0, 0.0])


def test_a_camera_that_shows_one_picture_while_the_hand_moves_is_frozen():
    check = FrozenCheck("front")
    assert check.see(b"one", HERE) == ""
    assert "front camera is frozen" in check.see(b"one", THERE)


def test_a_hand_at_rest_may_look_the_same_for_ever():
    check = FrozenCheck("front")
    assert [check.see(b"one", HERE) for _ in range(5)] == [""] * 5


def test_pictures_that_change_are_live():
    check = FrozenCheck("front")
    check.see(b"one", HERE)
    assert check.see(b"two", THERE) == ""
    assert check.see(b"two", THERE) == ""
