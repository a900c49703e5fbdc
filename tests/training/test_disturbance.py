"""Pushes off a policy's way: as large as asked for, with memory, and of the seed alone."""

import numpy as np
import pytest
from resip.errors import ResipError
from resip_training.rollout.disturbance import LARGEST_M, MEMORY, STRONGEST, Disturbance

SCALE_M = 0.003


def offsets_m(seeds, steps, scale_m=SCALE_M):
    """Offsets ``(steps, n, 3)`` of episodes side by side."""
    disturbance = Disturbance(len(seeds), scale_m)
    disturbance.start(np.ones(len(seeds), dtype=bool), seeds)
    return np.stack([disturbance.offsets_m() for _ in range(steps)])


def test_over_many_episodes_an_axis_deviates_by_the_scale():
    one_step = offsets_m(range(20_000), 1)[0]
    assert np.abs(one_step.mean()) < 0.02 * SCALE_M
    # the mean square of a uniform deviation between 0 and twice the scale is 4/3 of its mean's
    assert one_step.std(axis=0) == pytest.approx(np.sqrt(STRONGEST**2 / 3) * SCALE_M, rel=0.03)


def test_it_is_as_strong_at_the_end_of_an_episode_as_at_its_beginning_and_remembers():
    offsets = offsets_m(range(5000), 100)
    assert offsets[-1].std() == pytest.approx(offsets[0].std(), rel=0.03)
    together = np.mean(offsets[:-1] * offsets[1:]) / np.mean(offsets[:-1] ** 2)
    assert together == pytest.approx(MEMORY, abs=0.01)


def test_episodes_differ_in_how_strongly_they_are_disturbed():
    deviations = offsets_m(range(300), 2000).std(axis=(0, 2))
    assert np.quantile(deviations, 0.1) < 0.3 * SCALE_M
    assert np.quantile(deviations, 0.9) > 1.6 * SCALE_M


def test_an_episode_is_disturbed_by_its_seed_alone():
    alone = offsets_m([7], 5)[:, 0]
    disturbance = Disturbance(2, SCALE_M)
    disturbance.start(np.array([True, False]), [3, None])
    assert not disturbance.offsets_m()[1].any(), "nothing runs there yet"
    disturbance.start(np.array([False, True]), [None, 7])
    np.testing.assert_array_equal([disturbance.offsets_m()[1] for _ in range(5)], alone)


@pytest.mark.parametrize("scale_m", [-0.001, 2 * LARGEST_M, float("nan"), float("inf")])
def test_a_size_that_makes_no_sense_is_refused(scale_m):
    with pytest.raises(ResipError, match=r"is not from 0 to 0.02 m"):
        Disturbance(1, scale_m)
