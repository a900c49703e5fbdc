"""What the script of the operator's page does, over HTTP."""

import json
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit


class OperatorsPage:
    """The page whose address stands at the end of the line ``PRINTED``."""

    PRINTED = "operator's page: "

    def __init__(self, printed):
        self.url = urlsplit(printed.rpartition(" ")[2].strip())

    def ask(self, path, word=None):
        request = urllib.request.Request(
            f"http://{self.url.netloc}{path}?{self.url.query}", None if word is None else word.encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise AssertionError(error.read()) from error

    def say(self, word):
        return json.loads(self.ask("/say", word))["message"]

    def wait_for(self, condition):
        deadline_s = time.monotonic() + 60.0
        while not condition(state := {"sayable": [], "marks": {}} | json.loads(self.ask("/state"))):
            assert time.monotonic() < deadline_s, state
            time.sleep(0.05)
