"""Model cards say in a line what manifests list."""

from __future__ import annotations

from resip_training.model_card import ranges


def test_runs_of_seeds_are_written_by_their_ends() -> None:
    assert ranges([9, 2, 1, 3]) == "1-3, 9"


def test_of_scattered_seeds_only_their_number_and_the_ends_are_written() -> None:
    assert ranges(list(range(100, 200, 2))) == "50 of 100-198"
