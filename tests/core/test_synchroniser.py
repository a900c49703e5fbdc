"""An observation is made of samples that belong together, or not at all."""

from resip.policy.synchroniser import Moment, Synchroniser


def three_streams():
    return Synchroniser(("front", "wrist", "state"), max_skew_s=0.05, max_age_s=0.3)


def test_what_has_not_come_is_named():
    inputs = three_streams()
    inputs.add("front", 1.0, "f")
    assert inputs.newest(1.0) == "nothing has come from wrist yet"


def test_a_stream_that_stopped_is_named_with_its_age():
    inputs = three_streams()
    for stream, time_s in (("front", 2.0), ("wrist", 1.0), ("state", 2.0)):
        inputs.add(stream, time_s, stream)
    assert inputs.newest(2.0) == "nothing has come from wrist for 1.0 s"


def test_the_samples_nearest_to_the_leading_one_are_taken():
    inputs = three_streams()
    inputs.add("front", 1.0, "f")
    inputs.add("wrist", 1.0, "w")
    for k in range(5):
        inputs.add("state", 0.98 + 0.01 * k, k)
    assert inputs.newest(1.02) == Moment(1.0, {"front": "f", "wrist": "w", "state": 2})


def test_an_incomplete_newest_moment_gives_way_to_the_last_complete_one():
    inputs = three_streams()
    for time_s in (1.0, 1.1):
        inputs.add("front", time_s, f"f{time_s}")
        inputs.add("state", time_s, f"s{time_s}")
    inputs.add("wrist", 1.0, "w1.0")
    assert inputs.newest(1.1) == Moment(1.0, {"front": "f1.0", "wrist": "w1.0", "state": "s1.0"})


def test_streams_that_never_meet_give_no_observation():
    inputs = three_streams()
    inputs.add("front", 1.0, "f")
    inputs.add("wrist", 1.2, "w")
    inputs.add("state", 1.2, "s")
    assert "apart" in inputs.newest(1.2)


def test_the_age_is_that_of_the_leading_stream():
    inputs = three_streams()
    assert inputs.age_s(1.0) is None
    inputs.add("front", 1.0, "f")
    assert inputs.age_s(1.25) == 0.25
