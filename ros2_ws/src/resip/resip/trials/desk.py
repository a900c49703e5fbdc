"""Where the operator's words come in: the keys of a terminal, and the page in the browser.

Both have threads of their own; the words wait until the trial's thread hears them.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from resip.errors import ResipError
from resip.teleop.source import SourceLostError
from resip.teleop.terminal import Terminal
from resip.trials.operator import HELP, OperatorError
from resip.trials.web import OperatorServer

_READ_S: Final = 0.1  # longest time between two looks at the end
_ANSWER_S: Final = 5.0

Picture = Callable[[str, str], bytes | None]


class Desk:
    """Takes words in until ``close``.

    Args:
      task: title of the page.
      keys: key of each word, empty where it has none.
      picture: what the cameras see (``live``) and shall see (``wanted``), as JPEG; called from the page's threads.
      terminal: file of the terminal with the keys; empty: none.
      page_port: of the page; 0: any free one, negative: none.

    Raises:
      ResipError: it is no terminal, or the port is taken.
    """

    def __init__(
        self, task: str, keys: Mapping[str, str], picture: Picture, terminal: str = "", page_port: int = -1
    ) -> None:
        self.picture = picture
        self.shown: Mapping[str, Any] = {}
        self._words: queue.SimpleQueue[tuple[str, Future[str]]] = queue.SimpleQueue()
        self._keys = {key: word for word, key in keys.items() if key}
        self._end = threading.Event()
        self._terminal = Terminal(terminal) if terminal else None
        self._server = OperatorServer(self, task, keys, HELP, page_port) if page_port >= 0 else None
        self._thread = threading.Thread(target=self._read, name="operator_keys", daemon=True)
        if self._terminal:
            self._thread.start()

    @property
    def invitation(self) -> list[str]:
        """Lines that tell the operator what there is."""
        lines = [f"operator's page: {self._server.url}"] if self._server else []
        if self._terminal:
            named = (f"{'space' if key == ' ' else key} {word}" for key, word in self._keys.items())
            lines.append(f"keys: {', '.join(named)}")
        return lines

    def state(self) -> Mapping[str, Any]:
        """What the page shows: see ``shown``, which the trial's thread sets."""
        return self.shown

    def say(self, word: str) -> str:
        """Say a word and wait until it was heard; what came of it.

        Raises:
          ResipError: it does not fit the moment, or nobody hears.
        """
        answer: Future[str] = Future()
        self._words.put((word, answer))
        try:
            return answer.result(_ANSWER_S)
        except TimeoutError:
            raise OperatorError("the trial node is busy: say it again") from None

    def hear(self, listen: Callable[[str], str]) -> None:
        """Pass the words said on to ``listen``, in the calling thread; what it raises goes to who said the word."""
        while not self._words.empty():
            word, answer = self._words.get()
            try:
                answer.set_result(listen(word))
            except ResipError as error:
                answer.set_exception(error)

    def close(self) -> None:
        """Give the terminal back and stop serving."""
        self._end.set()
        if self._server:
            self._server.close()
        if self._terminal:
            self._thread.join()
            self._terminal.close()

    def _read(self) -> None:
        assert self._terminal is not None
        while not self._end.is_set():
            try:
                pressed = self._terminal.read(_READ_S)
            except SourceLostError:
                return  # the page and the services are left
            for key in pressed:
                if key in self._keys:
                    self._words.put((self._keys[key], Future()))
