"""The operator's page in a real browser: what it shows, and what its buttons and keys say."""

import browser
import numpy as np
import pytest
from resip import images
from resip.trials import operator
from resip.trials.operator import Operator
from resip.trials.protocol import Phase
from resip.trials.web import OperatorServer

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="needs Chromium: apt-get install chromium")


class Trials:
    """A trial of one_leg whose operator judges."""

    def __init__(self):
        self.operator = Operator("one_leg", judges=True)
        self.said = []
        self.phase = Phase.WAIT
        self.live = images.encode_jpeg(np.full((240, 320, 3), 60, np.uint8))
        wanted = np.full((240, 320, 3), 60, np.uint8)
        wanted[100:140, 150:200] = (240, 200, 40)
        self.start = images.encode_jpeg(wanted)

    def state(self):
        running = self.phase is Phase.RUN
        return {
            "trial": 3,
            "trials": 20,
            "start": 2,
            "policy": "",
            "phase": self.phase.value,
            "running": running,
            "time_s": 12.0 if running else None,
            "limit_s": 70.0,
            "marks": self.operator.marks,
            "sayable": self.operator.sayable(running),
            "lays_out": not self.operator.begun,
        }

    def say(self, word):
        self.said.append(word)
        answer = self.operator.say(word, self.phase, 12.0)
        if word == "begin":
            self.phase = Phase.RUN
        return answer

    def picture(self, kind, camera):
        return self.live if kind == "live" else self.start if camera == "front" else None


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    chromium = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.fixture
def trials():
    return Trials()


@pytest.fixture
def page(trials, chromium):
    """The page, loaded."""
    server = OperatorServer(trials, "one_leg", operator.keys("one_leg"), operator.HELP, port=0)
    chromium.open(server.url)
    chromium.wait_for("document.getElementById('trial')?.textContent.includes('trial 3 of 20')")
    yield chromium
    server.close()


def enabled(word):
    return f"!document.querySelector('[data-word={word}]').disabled"


def test_the_wanted_start_lies_over_the_live_picture_until_the_trial_begins(page, trials):
    page.wait_for("document.querySelector('.live[data-camera=front]').naturalWidth === 320")
    page.wait_for("document.querySelector('.wanted[data-camera=front]').naturalWidth === 320")
    assert page.value("getComputedStyle(document.querySelector('.wanted[data-camera=front]')).opacity") == "0.5"
    assert not page.value("document.querySelector('.wanted[data-camera=wrist]').hasAttribute('src')")  # none is known
    page.value("document.getElementById('difference').click()")
    style = "getComputedStyle(document.querySelector('.wanted[data-camera=front]')).mixBlendMode"
    assert page.value(style) == "difference"

    trials.say("begin")
    page.wait_for("!document.querySelector('.wanted[data-camera=front]').hasAttribute('src')")


def test_keys_begin_mark_take_back_and_judge(page, trials):
    page.wait_for(enabled("begin"))
    assert not page.value(enabled("corner"))
    page.press("1")  # too early: nothing is said
    page.press(" ")
    page.wait_for(enabled("corner"))
    page.press("1")
    page.wait_for("document.querySelector('[data-word=corner]').classList.contains('reached')")
    assert page.value("document.querySelector('[data-word=corner] small').textContent") == "at 12.0 s"
    page.press("u")
    page.wait_for("!document.querySelector('[data-word=corner]').classList.contains('reached')")
    page.press("5")
    page.wait_for("document.getElementById('message').textContent === 'complete at 12.0 s'")
    assert trials.said == ["begin", "corner", "undo", "complete"]


def test_buttons_say_the_same(page, trials):
    page.wait_for(enabled("begin"))
    page.value("document.querySelector('[data-word=begin]').click()")
    page.wait_for(enabled("failure"))
    page.value("document.querySelector('[data-word=failure]').click()")
    page.wait_for("document.getElementById('message').textContent === 'failure at 12.0 s'")
    assert trials.said == ["begin", "failure"]


def test_an_end_of_the_node_is_told_and_nothing_can_be_said_any_more(trials, chromium):
    server = OperatorServer(trials, "one_leg", operator.keys("one_leg"), operator.HELP, port=0)
    chromium.open(server.url)
    chromium.wait_for("document.querySelector('[data-word=begin]')?.disabled === false")
    server.close()
    chromium.wait_for("document.getElementById('phase').textContent === 'the trial node has ended'")
    assert chromium.value("document.querySelector('[data-word=abort]').disabled")
