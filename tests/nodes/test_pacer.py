"""The cell's pace: as fast as asked for, never ahead of those who command it."""

import pytest
from resip.nodes.pacer import MAX_CATCH_UP_S, Pacer

STEP_S = 0.002
TOPIC = "/command"


def free(allowance_s=0.03):
    """A pacer that only topics hold back."""
    return Pacer(rtf=0.0, allowances_s={TOPIC: allowance_s}, release_after_s={TOPIC: 2.0})


def test_without_a_factor_and_without_topics_every_step_may_be_taken():
    pacer = free()
    assert all(pacer.wait_s(k * STEP_S, steady_s=0.0) == 0.0 for k in range(1000))


@pytest.mark.parametrize("rtf", [0.5, 1.0, 4.0])
def test_the_factor_is_kept(rtf):
    pacer = Pacer(rtf, {}, {})
    steady_s = 0.0
    for k in range(501):
        steady_s += pacer.wait_s(k * STEP_S, steady_s)
    assert steady_s == pytest.approx(1.0 / rtf)


def test_a_short_delay_is_caught_up():
    pacer = Pacer(1.0, {}, {})
    pacer.wait_s(0.0, steady_s=10.0)
    assert pacer.wait_s(0.05, steady_s=10.1) == 0.0
    assert pacer.wait_s(0.2, steady_s=10.1) == pytest.approx(0.1)


def test_a_long_delay_is_forgiven():
    pacer = Pacer(1.0, {}, {})
    pacer.wait_s(0.0, steady_s=0.0)
    assert pacer.wait_s(0.1, steady_s=60.0) == 0.0
    assert pacer.wait_s(0.1 + MAX_CATCH_UP_S + 0.5, steady_s=60.0) == pytest.approx(0.5)


def test_the_cell_waits_for_a_live_topic():
    pacer = free()
    pacer.heard(TOPIC, stamp_s=1.00)
    assert pacer.wait_s(1.03, steady_s=0.0) == 0.0
    assert pacer.wait_s(1.032, steady_s=0.0) > 0.0
    assert pacer.holding(1.032, steady_s=0.0) == [TOPIC]
    pacer.heard(TOPIC, stamp_s=1.01)
    assert pacer.wait_s(1.032, steady_s=0.1) == 0.0


def test_a_topic_that_is_waited_for_in_vain_is_released_after_a_while():
    pacer = free()
    pacer.heard(TOPIC, stamp_s=1.0)
    assert pacer.wait_s(2.0, steady_s=5.0) == pytest.approx(2.0)
    assert pacer.wait_s(2.0, steady_s=6.9) == pytest.approx(0.1)
    assert pacer.wait_s(2.0, steady_s=7.0) == 0.0


def test_a_topic_that_nobody_waited_for_is_not_released_for_its_silence():
    pacer = free()
    pacer.heard(TOPIC, stamp_s=1.0)
    assert pacer.wait_s(1.01, steady_s=5.0) == 0.0
    assert pacer.wait_s(1.05, steady_s=500.0) == pytest.approx(2.0), "the cell stood still for another topic"


def test_a_released_topic_paces_again_when_it_is_heard():
    pacer = free()
    pacer.heard(TOPIC, stamp_s=1.0)
    pacer.release(TOPIC)
    assert pacer.wait_s(9.0, steady_s=0.0) == 0.0
    pacer.heard(TOPIC, stamp_s=9.0)
    assert pacer.wait_s(9.1, steady_s=0.0) > 0.0


def test_an_old_stamp_does_not_set_a_topic_back():
    pacer = free()
    pacer.heard(TOPIC, stamp_s=2.0)
    pacer.heard(TOPIC, stamp_s=1.0)
    assert pacer.wait_s(2.03, steady_s=0.1) == 0.0
