"""Downloads against a server on this machine that behaves well, badly, and very badly."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from certvae.data.download import Pinned, download
from certvae.data.loading import SOURCES
from certvae.errors import DataFault, DiskFault

CONTENT = bytes(range(256)) * 4096
NAMES = [name for name, official in SOURCES.items() if official.pins]


class Server(BaseHTTPRequestHandler):
    """The path of a request says how it is answered."""

    def do_GET(self) -> None:
        match self.path:
            case "/good":
                self.answer(CONTENT)
            case "/wrong":
                self.answer(CONTENT[::-1])
            case "/short":
                self.answer(CONTENT[:1000])
            case "/cut":
                self.answer(CONTENT[:1000], announced=len(CONTENT))
            case "/endless":
                self.endless()
            case "/to-good":
                self.redirect("/good")
            case "/to-file":
                self.redirect("file:///good")
            case _:
                self.send_error(404)

    def answer(self, content: bytes, announced: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(announced or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(CONTENT)
        except OSError:
            self.server.hung_up.set()  # type: ignore[attr-defined]

    def redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


@pytest.fixture
def server(monkeypatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.hung_up = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def pinned(server: ThreadingHTTPServer, path: str) -> Pinned:
    url = f"http://127.0.0.1:{server.server_port}{path}"
    return Pinned(url=url, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), place="deep/down/file.bin")


def everything_below(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("path", ["/good", "/to-good"])
def test_keeps_the_pinned_bytes_and_nothing_else(server, tmp_path, path):
    target = download(pinned(server, path), tmp_path, progress=False)
    assert target.read_bytes() == CONTENT
    assert everything_below(tmp_path) == [target]


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/wrong", "E-DATA", hashlib.sha256(CONTENT[::-1]).hexdigest()),
        ("/short", "E-DATA", hashlib.sha256(CONTENT[:1000]).hexdigest()),
        ("/cut", "E-DATA", "1000 bytes read"),
        ("/endless", "E-DATA", f"more than {len(CONTENT):,} bytes"),
        ("/to-file", "E-DATA", "No connection adapters"),
        ("/absent", "E-DATA", "404"),
    ],
)
def test_refuses_everything_else_and_leaves_nothing(server, tmp_path, path, code, words):
    with pytest.raises(DataFault, match=code) as raised:
        download(pinned(server, path), tmp_path, progress=False)
    assert words in str(raised.value)
    assert everything_below(tmp_path) == []


def test_hangs_up_on_an_endless_body(server, tmp_path):
    with pytest.raises(DataFault):
        download(pinned(server, "/endless"), tmp_path, progress=False)
    assert server.hung_up.wait(10)


def test_says_where_to_put_the_file_when_there_is_no_server(server, tmp_path):
    gone = pinned(server, "/good")
    server.shutdown()
    server.server_close()
    with pytest.raises(DataFault, match="E-DATA") as raised:
        download(gone, tmp_path, progress=False)
    assert raised.value.remedy.count("deep/down/file.bin") == 1
    assert raised.value.exit_code == 2


def test_a_download_replaces_nothing_on_failure(server, tmp_path):
    target = tmp_path / "deep/down/file.bin"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    with pytest.raises(DataFault):
        download(pinned(server, "/wrong"), tmp_path, progress=False)
    assert target.read_bytes() == b"mine"


def test_a_root_that_cannot_be_written_is_a_fault_of_the_disk(server, tmp_path):
    (tmp_path / "deep").write_bytes(b"a file where a folder should be")
    with pytest.raises(DiskFault):
        download(pinned(server, "/good"), tmp_path, progress=False)


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_is_pinned_by_https_size_and_sha256(name):
    pins = SOURCES[name].pins
    for pin in pins:
        assert pin.url.startswith("https://")
        assert pin.size > 4000
        assert len(bytes.fromhex(pin.sha256)) == 32
        assert not Path(pin.place).is_absolute()
    assert len({pin.sha256 for pin in pins}) == len(pins) > 0
