"""Pictures of the starts that a person lays out again."""

import pytest
from resip.errors import ResipError
from resip.trials.starts import Starts


def test_the_first_trial_of_a_start_says_how_it_looks(tmp_path):
    starts = Starts(tmp_path)
    assert starts.wanted(3, "front") is None
    starts.keep(3, "front", b"first")
    starts.keep(3, "front", b"second")
    assert starts.wanted(3, "front") == b"first"
    assert starts.wanted(3, "wrist") is None
    assert starts.wanted(4, "front") is None


def test_the_starts_of_earlier_trials_are_wanted_again(tmp_path):
    Starts(tmp_path / "first").keep(0, "front", b"as before")
    again = Starts(tmp_path / "second", tmp_path / "first")
    assert again.wanted(0, "front") == b"as before"
    again.keep(0, "front", b"nearly")
    assert again.wanted(0, "front") == b"as before"
    assert Starts(tmp_path / "second").wanted(0, "front") == b"nearly"


def test_earlier_trials_without_starts_are_named(tmp_path):
    with pytest.raises(ResipError, match=f"no starts in {tmp_path}"):
        Starts(tmp_path / "new", tmp_path)
