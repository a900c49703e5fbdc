"""Success figures and timings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resip.trials.statistics import Success, Timing, wilson_interval

# Newcombe 1998, table I, method 3 (Wilson): four decimals
PUBLISHED = [
    ((81, 263), (0.2553, 0.3662)),
    ((15, 148), (0.0624, 0.1605)),
    ((0, 20), (0.0, 0.1611)),
    ((1, 29), (0.0061, 0.1718)),
]


@pytest.mark.parametrize(("counts", "interval"), PUBLISHED)
def test_the_interval_is_the_published_one(counts, interval):
    assert wilson_interval(*counts) == pytest.approx(interval, abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_rate_and_stays_within_0_and_1(counts):
    k, n = counts
    low, high = wilson_interval(k, n)
    assert 0.0 <= low <= k / n <= high <= 1.0


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_counting_failures_mirrors_the_interval(counts):
    k, n = counts
    low, high = wilson_interval(k, n)
    assert wilson_interval(n - k, n) == pytest.approx((1 - high, 1 - low))


def test_no_trial_says_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_more_successes_than_trials_are_refused():
    with pytest.raises(ValueError, match="3 successes of 2 trials"):
        wilson_interval(3, 2)


def test_a_success_figure_has_counts_rate_interval_and_seeds():
    figure = Success.of([True, False, True, True], seeds=[7, 8, 9, 10]).as_json()
    assert (figure["n"], figure["k"], figure["rate"], figure["seeds"]) == (4, 3, 0.75, [7, 8, 9, 10])
    assert figure["interval"] == pytest.approx([0.3006, 0.9544], abs=1e-4)


def test_a_success_figure_reads_as_counts_rate_and_interval():
    assert str(Success.of([True, False], seeds=[0, 1])) == "1/2 (50%, 95 % interval 9% to 91%)"
    assert str(Success.of([], seeds=[])) == "no trial was judged"


def test_a_timing_has_median_tail_count_and_unit():
    timing = Timing.of(np.arange(1, 101), "ms")
    assert timing is not None
    assert (timing.median, timing.max, timing.n, timing.unit) == (50.5, 100.0, 100, "ms")
    assert (timing.p95, timing.p99) == pytest.approx((95.05, 99.01))


def test_no_sample_makes_no_timing():
    assert Timing.of([], "ms") is None
