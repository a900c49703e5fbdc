"""A headless Chromium, spoken to through its debugging pipe: no driver, no network, no package."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_PATIENCE_S = 60.0
_FLAGS = ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe")


class Browser:
    """One tab; ``close`` ends the browser."""

    def __init__(self, profile_directory):
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        arguments = [PROGRAM, *_FLAGS, *sandbox, f"--user-data-dir={profile_directory}", "about:blank"]
        # Chromium reads commands from file 3 and answers on file 4
        shell = ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "browser", *arguments]
        self._popen = subprocess.Popen(
            shell, pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(commands)
        os.close(answers)
        self._buffer, self._number, self._session = b"", 0, None
        targets = self._ask("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]

    def close(self):
        self._popen.terminate()
        self._popen.wait(_PATIENCE_S)
        os.close(self._commands)
        os.close(self._answers)

    def open(self, url):
        self._ask("Page.navigate", url=url)

    def value(self, script):
        """What an expression of JavaScript is."""
        found = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script):
        """Wait until an expression of JavaScript holds."""
        until_s = time.monotonic() + _PATIENCE_S
        while not self.value(script):
            assert time.monotonic() < until_s, f"waited in vain for {script}"
            time.sleep(0.05)

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot")["data"]))

    def _ask(self, method, **parameters):
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            pass  # an event
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self):
        while b"\0" not in self._buffer:
            assert select.select([self._answers], [], [], _PATIENCE_S)[0], "the browser does not answer"
            data = os.read(self._answers, 1 << 16)
            assert data, "the browser has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
