"""Exact comparison of policies, the trials still needed, and the rule to stop early."""

import numpy as np
import pytest
from resip.trials import comparison
from resip.trials.comparison import ALPHA, Pairs
from resip.trials.statistics import Success
from scipy import stats


def counts(k, n):
    return Success.of([True] * k + [False] * (n - k), range(n))


def draw(rng, share_first, share_second, n):
    """Pairs of which only the first, or only the second, succeeds in these shares."""
    kinds = np.array([(True, False), (False, True), (True, True)])
    return kinds[rng.choice(3, size=n, p=[share_first, share_second, 1 - share_first - share_second])].tolist()


class TestExactTests:
    def test_six_pairs_won_by_the_same_policy_are_the_fewest_that_decide(self):
        assert comparison.paired_p(Pairs(10, 5, 0)) == pytest.approx(2 * 0.5**5)
        assert comparison.paired_p(Pairs(10, 6, 0)) == pytest.approx(2 * 0.5**6)
        assert comparison.paired_p(Pairs(10, 5, 0)) > ALPHA > comparison.paired_p(Pairs(10, 6, 0))

    @pytest.mark.parametrize("wins", [(0, 7), (3, 9), (5, 5), (12, 4)])
    def test_it_is_the_binomial_test_of_a_fair_coin(self, wins):
        assert comparison.paired_p(Pairs(30, *wins)) == pytest.approx(stats.binomtest(wins[0], sum(wins)).pvalue)

    def test_pairs_that_agree_say_nothing(self):
        assert comparison.paired_p(Pairs(100, 0, 0)) == 1.0

    def test_counts_from_different_starts_are_compared_no_less_keenly_than_by_fisher(self):
        p = comparison.unpaired_p(counts(9, 10), counts(3, 10))
        assert p == comparison.unpaired_p(counts(3, 10), counts(9, 10))
        assert p <= stats.fisher_exact([[9, 3], [1, 7]]).pvalue

    @pytest.mark.parametrize("k", [0, 10])
    def test_equal_extremes_are_no_difference(self, k):
        assert comparison.unpaired_p(counts(k, 10), counts(k, 10)) == 1.0

    def test_several_comparisons_are_held_to_the_error_of_one(self):
        assert comparison.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
        assert comparison.holm([0.5, 0.9]) == [1.0, 1.0]


class TestTrialsNeeded:
    @pytest.mark.parametrize("shares", [(0.5, 0.1), (0.3, 0.05), (0.2, 0.1)])
    def test_with_as_many_pairs_four_of_five_experiments_decide(self, shares):
        n = comparison.pairs_needed(*shares)
        rng = np.random.default_rng(0)
        decided = [comparison.paired_p(Pairs.of(draw(rng, *shares, n))) <= ALPHA for _ in range(1000)]
        assert np.mean(decided) == pytest.approx(0.8, abs=0.04)

    def test_a_clearer_difference_needs_fewer(self):
        assert comparison.pairs_needed(0.6, 0.0) < comparison.pairs_needed(0.3, 0.1) < comparison.pairs_needed(0.2, 0.1)

    def test_what_does_not_differ_is_never_told_apart(self):
        assert comparison.pairs_needed(0.2, 0.2) is None
        assert comparison.pairs_needed(0.0, 0.0) is None


class TestStoppingEarly:
    def test_eight_pairs_won_by_the_same_policy_stop_it(self):
        assert not comparison.decided([(True, False)] * 7)
        assert comparison.decided([(True, False)] * 8)

    def test_what_was_decided_stays_decided(self):
        assert comparison.decided([(False, True)] * 8 + [(True, False)] * 30)

    @pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
    def test_equal_policies_are_told_apart_in_at_most_one_of_twenty_evaluations_however_long(self, share):
        rng = np.random.default_rng(1)
        wrong = sum(comparison.decided(draw(rng, share, share, 200)) for _ in range(1000))
        assert wrong <= ALPHA * 1000

    def test_looking_after_every_pair_with_the_fixed_test_would_err_more_often(self):
        def ever_below(pairs):
            return any(comparison.paired_p(Pairs.of(pairs[:n])) <= ALPHA for n in range(6, len(pairs)))

        rng = np.random.default_rng(2)
        assert np.mean([ever_below(draw(rng, 0.5, 0.5, 50)) for _ in range(60)]) > 2 * ALPHA

    def test_a_clear_difference_stops_it_long_before_its_end(self):
        rng = np.random.default_rng(3)
        lengths = []
        for _ in range(200):
            pairs = draw(rng, 0.6, 0.05, 100)
            lengths.append(next(n for n in range(1, 101) if comparison.decided(pairs[:n]) or n == 100))
        assert np.median(lengths) < 25


class TestReport:
    def test_policies_from_the_same_starts_are_compared_in_pairs(self):
        starts = range(10)
        (found,) = comparison.compare({"a": dict.fromkeys(starts, True), "b": {s: s < 4 for s in starts}})
        assert (found.first, found.second, found.test) == ("a", "b", comparison.PAIRED)
        assert found.pairs == Pairs(10, 6, 0)
        assert (found.difference, found.p, found.decided, found.needed) == (
            pytest.approx(0.6),
            pytest.approx(2 / 64),
            True,
            0,
        )

    def test_half_a_pair_at_the_end_is_left_out(self):
        (found,) = comparison.compare({"a": dict.fromkeys(range(7), True), "b": dict.fromkeys(range(6), False)})
        assert (found.test, found.pairs) == (comparison.PAIRED, Pairs(6, 6, 0))

    def test_other_starts_are_compared_by_their_counts(self):
        a, b = dict.fromkeys(range(10), True), {s: s % 2 == 0 for s in range(100, 110)}
        (found,) = comparison.compare({"a": a, "b": b})
        assert (found.test, found.pairs) == (comparison.UNPAIRED, None)

    def test_an_undecided_comparison_says_how_many_trials_are_missing(self):
        a, b = {s: s < 8 for s in range(10)}, {s: s < 5 for s in range(10)}
        (found,) = comparison.compare({"a": a, "b": b})
        assert not found.decided
        assert found.needed == comparison.pairs_needed(0.3, 0.0) - 10

    def test_trials_that_may_stop_early_are_judged_by_the_rule_they_stop_by(self):
        (found,) = comparison.compare({"a": dict.fromkeys(range(7), True), "b": dict.fromkeys(range(7), False)}, True)
        assert (found.test, found.decided) == (comparison.SEQUENTIAL, False)
        assert found.needed >= 1

    def test_three_policies_make_three_comparisons_with_stricter_p(self):
        trials = {"a": dict.fromkeys(range(6), True), "b": dict.fromkeys(range(6), False)}
        three = comparison.compare({**trials, "c": dict.fromkeys(range(6), True)})
        assert [(one.first, one.second) for one in three] == [("a", "b"), ("a", "c"), ("b", "c")]
        assert three[0].p == pytest.approx(3 * 2 / 64)

    def test_without_trials_nothing_is_said(self):
        (found,) = comparison.compare({"a": {}, "b": {}})
        assert (found.p, found.needed) == (1.0, None)
