"""The operator's page over HTTP: who may see it, and what it hears."""

import http.client
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from resip.errors import ResipError
from resip.trials import operator
from resip.trials.operator import OperatorError
from resip.trials.web import OperatorServer


class FakeTrials:
    def __init__(self):
        self.said = []

    def state(self):
        return {"trial": 3}

    def say(self, word):
        if word == "begin":
            raise OperatorError("the trial has begun already")
        self.said.append(word)
        return f"{word} heard"

    def picture(self, kind, camera):
        return b"jpeg" if (kind, camera) == ("live", "front") else None


@pytest.fixture
def trials():
    return FakeTrials()


@pytest.fixture
def server(trials):
    server = OperatorServer(trials, "one_leg", operator.keys("one_leg"), operator.HELP, port=0)
    yield server
    server.close()


@pytest.fixture
def ask(server):
    """Ask the server: status, body."""
    url = urlsplit(server.url)
    token = parse_qs(url.query)["token"][0]

    def request(method, path, body=None, token=token, host=None):
        connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=30)
        headers = {} if host is None else {"Host": host}
        connection.request(method, f"{path}?token={token}", body, headers)
        answer = connection.getresponse()
        status, content = answer.status, answer.read()
        connection.close()
        return status, content

    return request


def test_the_page_has_a_button_and_a_key_for_every_word(ask):
    status, html = ask("GET", "/")
    assert status == 200
    for word, key in operator.keys("one_leg").items():
        assert f'data-word="{word}" data-key="{key}"' in html.decode()


def test_it_loads_nothing_from_anywhere_else(ask):
    assert b"http" not in ask("GET", "/")[1]


def test_state_and_pictures_come_as_they_are(ask):
    assert json.loads(ask("GET", "/state")[1]) == {"trial": 3}
    assert ask("GET", "/live/front") == (200, b"jpeg")
    assert ask("GET", "/wanted/front")[0] == 404


@pytest.mark.parametrize("path", ["/live/../../etc/passwd", "/live/other", "/state/x", "/starts"])
def test_there_is_nothing_else(ask, path):
    assert ask("GET", path)[0] == 404


def test_words_are_passed_on_and_refusals_come_back(ask, trials):
    status, content = ask("POST", "/say", "corner")
    assert (status, json.loads(content)["message"], trials.said) == (200, "corner heard", ["corner"])
    status, content = ask("POST", "/say", "begin")
    assert (status, json.loads(content)["message"]) == (409, "the trial has begun already")


@pytest.mark.parametrize("token", ["", "guessed"])
def test_without_the_token_nobody_sees_or_says_anything(ask, trials, token):
    for method, path, body in (("GET", "/", None), ("GET", "/live/front", None), ("POST", "/say", "corner")):
        assert ask(method, path, body, token=token)[0] == 403
    assert trials.said == []


def test_a_name_that_points_here_is_refused(ask):
    assert ask("GET", "/", host="evil.example:80")[0] == 403


def test_a_long_word_is_refused_unread(ask, trials):
    assert ask("POST", "/say", "x" * 2000)[0] == 413
    assert trials.said == []


def test_every_server_has_a_token_of_its_own_and_binds_to_this_machine(server, trials):
    other = OperatorServer(trials, "one_leg", operator.keys("one_leg"), operator.HELP, port=0)
    try:
        assert urlsplit(other.url).query != urlsplit(server.url).query
        assert urlsplit(server.url).hostname == "127.0.0.1"
    finally:
        other.close()


def test_a_port_that_is_taken_is_named(server, trials):
    port = urlsplit(server.url).port
    with pytest.raises(ResipError, match=f"port {port}: .* choose another page_port"):
        OperatorServer(trials, "one_leg", {}, {}, port)
