"""Whether one policy is better than another: exact tests, the trials still needed, and when one may stop early.

Policies that ran from the same starts are compared pair by pair. Only pairs that differ count: if both policies
succeed equally often, each of these is a fair coin, whatever the starts are like (McNemar 1947).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from resip.trials.statistics import Success

#: Share of comparisons of equal policies that are called different.
ALPHA: Final = 0.05
#: Share of comparisons of policies as different as they seem that shall be called so.
POWER: Final = 0.8
_MOST_PAIRS: Final = 5000  # more than anybody runs

PAIRED: Final = "McNemar's exact test on pairs of trials from the same start"
UNPAIRED: Final = "Boschloo's exact test on the counts, for the starts differ"
SEQUENTIAL: Final = "Sequential test on pairs of trials from the same start, valid whenever one stops"


@dataclass(frozen=True)
class Pairs:
    """Pairs of trials from the same start: in how many of ``n`` only the first, or only the second, succeeded."""

    n: int
    only_first: int
    only_second: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[bool, bool]]) -> Pairs:
        """Count pairs of successes."""
        return cls(len(pairs), sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))


@dataclass(frozen=True)
class Comparison:
    """What is known of two policies' success rates."""

    first: str
    second: str
    difference: float
    """Rate of the first less that of the second."""
    p: float
    """Chance of a difference at least as clear between equal policies; Holm's, where several pairs are compared."""
    test: str
    pairs: Pairs | None
    needed: int | None
    """Trials of each policy, from common starts, still to run; None: no number up to 5000 would do."""

    @property
    def decided(self) -> bool:
        """Whether the difference is more than chance explains at the 5 % level."""
        return self.p <= ALPHA

    @property
    def verdict(self) -> str:
        """What may be said, in a line."""
        if self.decided:
            better = self.first if self.difference > 0 else self.second
            return f"{better} is better (p = {self.p:.2g})"
        if self.needed is None:
            return f"no difference is told (p = {self.p:.2g}), and none to be expected"
        more = "trial" if self.needed == 1 else "trials"
        return f"no difference is told (p = {self.p:.2g}); {self.needed} more {more} of each might, if the rates hold"

    def __str__(self) -> str:
        return f"{self.first} and {self.second}: {self.verdict}"

    def as_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {**asdict(self), "decided": self.decided}


def compare(named: dict[str, dict[int, bool]], sequential: bool = False) -> list[Comparison]:
    """Compare every two policies.

    Args:
      named: of each policy, whether the trial from a start (by its seed) succeeded.
      sequential: the trials may have been stopped early by ``decided``.
    """
    found = [_compare(first, second, named, sequential) for first, second in itertools.combinations(named, 2)]
    adjusted = holm([comparison.p for comparison in found])
    return [
        Comparison(**{**vars(comparison), "p": p, "needed": 0 if p <= ALPHA else comparison.needed})
        for comparison, p in zip(found, adjusted, strict=True)
    ]


def _compare(first: str, second: str, named: dict[str, dict[int, bool]], sequential: bool) -> Comparison:
    one, other = named[first], named[second]
    common = [start for start in one if start in other]
    rates = [sum(trials.values()) / len(trials) if trials else 0.0 for trials in (one, other)]
    difference = rates[0] - rates[1]
    if common and max(len(one), len(other)) - len(common) <= 1:  # a set that was cut off may lack half a pair
        both = [(one[start], other[start]) for start in common]
        pairs = Pairs.of(both)
        p, test = (sequential_p(both), SEQUENTIAL) if sequential else (paired_p(pairs), PAIRED)
        shares = pairs.only_first / pairs.n, pairs.only_second / pairs.n
    else:
        counts = [Success.of(list(trials.values()), list(trials)) for trials in (one, other)]
        p, test, pairs = unpaired_p(*counts), UNPAIRED, None
        shares = rates[0] * (1 - rates[1]), rates[1] * (1 - rates[0])
    needed = pairs_needed(*shares)
    done = min(len(one), len(other))
    return Comparison(first, second, difference, p, test, pairs, None if needed is None else max(1, needed - done))


# ---- a fixed number of trials ----


def paired_p(pairs: Pairs) -> float:
    """McNemar's exact test, two-sided."""
    fewer, differing = min(pairs.only_first, pairs.only_second), pairs.only_first + pairs.only_second
    return min(1.0, 2.0 * sum(math.comb(differing, k) for k in range(fewer + 1)) / 2**differing)


def unpaired_p(first: Success, second: Success) -> float:
    """Boschloo's exact test, two-sided: as strict as Fisher's, and finds more. Source: Boschloo 1970."""
    from scipy import stats  # a second to import: only for those who need it

    if not first.n or not second.n:
        return 1.0
    table = [[first.k, second.k], [first.n - first.k, second.n - second.k]]
    p = float(stats.boschloo_exact(table).pvalue)
    return 1.0 if math.isnan(p) else min(1.0, p)  # not a number where all or none succeeded


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p values of several comparisons, so that calling any equal pair different stays at 5 %."""
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, i in enumerate(np.argsort(p_values)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def power(pairs: int, share_first: float, share_second: float) -> float:
    """Chance that McNemar's exact test calls two policies different.

    Args:
      pairs: of trials.
      share_first: of pairs in which only the first policy succeeds.
      share_second: of pairs in which only the second does.
    """
    from scipy import stats

    differing = np.arange(pairs + 1)
    share = share_first + share_second
    if share == 0.0:
        return 0.0
    # most wins of the worse one at which the test still tells them apart; -1 where there is none
    critical = stats.binom.ppf(ALPHA / 2, differing, 0.5)
    critical -= stats.binom.cdf(critical, differing, 0.5) > ALPHA / 2
    won = share_first / share
    called = stats.binom.cdf(critical, differing, won) + stats.binom.cdf(critical, differing, 1 - won)
    return float(stats.binom.pmf(differing, pairs, share) @ called)


def pairs_needed(share_first: float, share_second: float) -> int | None:
    """Pairs of trials with which policies that differ so much are told apart with 80 % power; None: above 5000."""
    if share_first == share_second or power(_MOST_PAIRS, share_first, share_second) < POWER:
        return None
    low, high = 0, _MOST_PAIRS
    while high - low > 1:  # power rises with small teeth: the number found is near the smallest
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, share_first, share_second) >= POWER else (middle, high)
    return high


# ---- looking after every pair ----


def evidence(only_first: int, only_second: int) -> float:
    """How much likelier the differing pairs are under an unknown coin than under a fair one.

    The unknown coin's bias is spread evenly over 0 to 1. Under a fair coin this is a martingale that starts at 1, so
    the chance that it *ever* reaches 20 is at most 1/20. Source: Ville 1939; Robbins 1970.
    """
    n = only_first + only_second
    log_beta = math.lgamma(only_first + 1) + math.lgamma(only_second + 1) - math.lgamma(n + 2)
    return math.exp(n * math.log(2) + log_beta)


def sequential_p(pairs: Sequence[tuple[bool, bool]]) -> float:
    """P value of pairs in the order in which they ran, valid however often one looked and whenever one stopped."""
    strongest, first, second = 1.0, 0, 0
    for a, b in pairs:
        first, second = first + (a and not b), second + (b and not a)
        strongest = max(strongest, evidence(first, second))
    return 1.0 / strongest


def decided(pairs: Sequence[tuple[bool, bool]]) -> bool:
    """The rule to stop by: whether the pairs so far tell the policies apart. Errs in at most 5 % of all cases."""
    return sequential_p(pairs) <= ALPHA
