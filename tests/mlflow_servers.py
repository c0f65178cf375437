"""MLflow servers that fail, on loopback: each answers every request in one bad way, for as long as a test lasts."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Failure = Literal["refused", "500", "429", "half", "garbage", "hang", "drip"]
FAILURES: tuple[Failure, ...] = ("refused", "500", "429", "half", "garbage", "hang", "drip")


@contextlib.contextmanager
def bad_server(failure: Failure) -> Iterator[str]:
    """The address of a server that fails like this."""
    if failure == "refused":
        yield f"http://127.0.0.1:{_free_port()}"
        return
    released = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(failure, released))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        released.set()
        server.shutdown()
        server.server_close()


def _handler(failure: Failure, released: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            match failure:
                case "hang":
                    released.wait(60)
                case "drip":
                    self._reply(200, b"{", promised=10_000)
                    while not released.wait(0.2):
                        self.wfile.write(b" ")  # every byte in time, and no end
                case "half":
                    self._reply(200, b'{"experiment": {"experiment_', promised=1000)
                case "garbage":
                    self._reply(200, b"<html>a proxy says hello</html>")
                case _:
                    self._reply(int(failure), b'{"error_code": "INTERNAL_ERROR", "message": "no"}')

        do_GET = do_POST = do_PATCH = do_PUT = answer  # noqa: N815  (names of the standard library)

        def _reply(self, status: int, body: bytes, promised: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(promised or len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Tests print nothing."""

    return Handler


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
