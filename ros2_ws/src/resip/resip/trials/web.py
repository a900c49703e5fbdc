"""The operator's page: what the cameras see over what they shall see, the trial's state, and buttons for its words.

It is served to this machine alone (127.0.0.1), and only to who knows the token of its address. It loads nothing from
anywhere else.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

from resip import page, spaces
from resip.errors import ResipError

HOST: Final = "127.0.0.1"
_TEMPLATE: Final = "operator.html.j2"
_TOKEN_BYTES: Final = 16
_MOST_BYTES: Final = 1000  # of a request's body
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; connect-src 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Trials(Protocol):
    """What the page shows and speaks to; called from the server's threads."""

    def state(self) -> Mapping[str, Any]:
        """Plain values of the present trial."""
        ...

    def say(self, word: str) -> str:
        """Pass an operator's word on; what came of it.

        Raises:
          ResipError: it does not fit the moment.
        """
        ...

    def picture(self, kind: str, camera: str, /) -> bytes | None:
        """JPEG of a camera: ``live``, or as it is ``wanted`` at the start; None where there is none."""
        ...


class OperatorServer:
    """Serves the page until ``close``.

    Args:
      trials: what it shows.
      task: the title.
      keys: key of each word, empty where it has none.
      help_texts: what words do.
      port: 0 for any free one.

    Raises:
      ResipError: the port is taken.
    """

    def __init__(
        self, trials: Trials, task: str, keys: Mapping[str, str], help_texts: Mapping[str, str], port: int
    ) -> None:
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        html = page.render("resip.trials", _TEMPLATE, task=task, keys=keys, help=help_texts, cameras=spaces.CAMERAS)
        handler = type("Handler", (_Handler,), {"trials": trials, "html": html, "token": self._token})
        try:
            self._server = ThreadingHTTPServer((HOST, port), handler)
        except OSError as error:
            raise ResipError(
                f"cannot serve the operator's page on port {port}: {error.strerror}; choose another page_port"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="operator_page", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The page's address, with its token."""
        return f"http://{HOST}:{self._server.server_port}/?token={self._token}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request; ``trials``, ``html`` and ``token`` are set by the server."""

    trials: Trials
    html: str
    token: str

    def do_GET(self) -> None:
        """Give the page, the state of the trials, or a picture."""
        path = self._allowed_path()
        if path is None:
            return
        match path.strip("/").split("/"):
            case [""]:
                self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.html.encode())
            case ["state"]:
                self._json(HTTPStatus.OK, self.trials.state())
            case [("live" | "wanted") as kind, camera] if camera in spaces.CAMERAS:
                picture = self.trials.picture(kind, camera)
                if picture is None:
                    self._refuse(HTTPStatus.NOT_FOUND, "no picture yet")
                else:
                    self._answer(HTTPStatus.OK, "image/jpeg", picture)
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        """Take a word of the operator."""
        path = self._allowed_path()
        if path is None:
            return
        if path != "/say":
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
            return
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a word is short")
            return
        word = self.rfile.read(int(length)).decode(errors="replace")
        try:
            self._json(HTTPStatus.OK, {"message": self.trials.say(word)})
        except ResipError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))

    def _allowed_path(self) -> str | None:
        """The path asked for; None, and the refusal is sent, for those who do not know the token or come by a name."""
        port = self.connection.getsockname()[1]
        url = urlsplit(self.path)
        given = parse_qs(url.query).get("token", [""])[0]
        # a page of another site that lets its name point here still sends that name
        local = self.headers.get("Host") in (f"{HOST}:{port}", f"localhost:{port}")
        if local and secrets.compare_digest(given.encode(), self.token.encode()):
            return url.path
        self._refuse(HTTPStatus.FORBIDDEN, "open the address that the trial node printed, with its token")
        return None

    def _json(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        self._answer(status, "application/json", json.dumps(dict(content)).encode())

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._json(status, {"message": message})

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: several requests a second, each with the token."""
