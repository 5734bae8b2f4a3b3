"""The annotation page's server: files of the page, clips with seeking, captions to and fro."""

import ipaddress
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

from avgen_data_prep.annotate.clips import RefusedError, RunClips
from avgen_data_prep.cli_console import say
from avgen_data_prep.pipeline.spec import PipelineError

PORT = 8765
MOST_BYTES = 4_000_000
_PIECE = 1 << 16
_LOCAL = "127.0.0.1"
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/annotate.js": ("annotate.js", "text/javascript; charset=utf-8"),
    "/annotate.css": ("annotate.css", "text/css; charset=utf-8"),
}
_CLIP = re.compile(r"/api/clips/([A-Za-z0-9_-]{1,80})")
_CURVES = re.compile(r"/api/clips/([A-Za-z0-9_-]{1,80})/curves")
_FILE = re.compile(r"/clips/([A-Za-z0-9_-]{1,80})\.mp4")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; media-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class AnnotationServer(ThreadingHTTPServer):
    """Serves one run; close it after use.

    Args:
        folder: Of the run.
        host: Address to listen on.
        port: 0 takes any that is free.

    Raises:
        PipelineError: The folder holds no run, or the address cannot be had.
    """

    daemon_threads = True

    def __init__(self, folder: Path, host: str = _LOCAL, port: int = PORT):
        self.clips = RunClips(folder)
        if not 0 <= port < 65536:
            raise PipelineError(f"port is {port}; give 0 to 65535")
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise PipelineError(
                f"cannot listen on {host}:{port} ({error.strerror}); give another --port, 0 for any"
            ) from error
        self._address = ipaddress.ip_address(str(self.server_address[0]))
        self._names = {host.lower(), str(self._address)}
        if self.local or self._address.is_unspecified:
            self._names.add("localhost")

    @property
    def local(self) -> bool:
        """Whether this machine alone can reach it."""
        return self._address.is_loopback

    def is_named(self, host: str) -> bool:
        """Whether a request's ``Host`` means this server, so that no name of another site does.

        On all interfaces any address will do: a page of an address has that address' own origin.
        """
        name = re.sub(r":\d+$", "", host.lower())
        return name in self._names or (self._address.is_unspecified and _is_address(name))

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.server_address[0]}:{self.server_address[1]}/"


def run(
    folder: Path,
    host: str = _LOCAL,
    port: int = PORT,
    say: Callable[[str], object] = say,
) -> int:
    """Serve the annotation page of a run until interrupted.

    Args:
        folder: Of the run.
        host: Address to listen on; the page has no password, so others than this machine's own
            let everybody read and write who can reach it.
        port: 0 takes any that is free.
        say: Called with what the user should know.

    Raises:
        PipelineError: The folder holds no run, or the address cannot be had.
    """
    with AnnotationServer(folder, host, port) as server:
        rows = server.clips.listing()
        done = sum(row["annotated"] for row in rows)
        say(f"{folder}: {len(rows)} clips, {done} annotated")
        if forgotten := server.clips.forgotten():
            say(
                f"{len(forgotten)} annotations belong to no clip of the manifest, because cuts "
                f"have changed: {', '.join(forgotten[:3])}"
            )
        if not server.local:
            say("everybody who can reach this address can read and write annotations")
        say(f"open {server.url} (Ctrl-C ends)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("ended; what was saved is kept")
    return 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "avgen", ""
    timeout = 60

    @property
    def _site(self) -> AnnotationServer:
        assert isinstance(self.server, AnnotationServer)
        return self.server

    def do_GET(self) -> None:
        """Page, list of clips, clip, curves, file."""
        self._answer(self._get)

    def do_HEAD(self) -> None:
        """As GET, headers only."""
        self._answer(self._get)

    def do_PUT(self) -> None:
        """Save a clip's captions."""
        self._answer(self._put)

    def do_POST(self) -> None:
        """Nothing takes one."""
        self._answer(self._refuse)

    do_DELETE = do_PATCH = do_OPTIONS = do_POST  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Requests are not logged."""

    def _answer(self, action: Callable[[], None]) -> None:
        try:
            self._check_origin()
            action()
        except RefusedError as error:
            if self.command not in ("GET", "HEAD"):
                self.close_connection = True  # its body may not have been read
            self._send_json(error.answer, error.status)
        except ConnectionError:
            self.close_connection = True

    def _check_origin(self) -> None:
        """Pages of other sites, and names that point here, reach nothing."""
        host = self.headers.get("Host", "")
        if not self._site.is_named(host):
            raise RefusedError(
                421,
                f"this server is not {host!r}; open it by its address, as {self._site.url}, or "
                "start it with that name as --host",
            )
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            raise RefusedError(403, f"requests from {origin!r} are refused")

    def _refuse(self) -> None:
        raise RefusedError(405, f"{self.command} is not supported; use GET, or PUT for captions")

    def _get(self) -> None:
        path, clips = self.path.partition("?")[0], self._site.clips
        if path in _PAGE:
            name, kind = _PAGE[path]
            data = resources.files("avgen_data_prep.annotate").joinpath("page", name).read_bytes()
            self._send(200, {"Content-Type": kind}, data)
        elif path == "/api/clips":
            self._send_json({"clips": clips.listing()})
        elif found := _CLIP.fullmatch(path):
            self._send_json(clips.clip(found[1]))
        elif found := _CURVES.fullmatch(path):
            self._send_json(clips.curves(found[1]))
        elif found := _FILE.fullmatch(path):
            self._send_file(clips.file(found[1]))
        else:
            raise RefusedError(404, f"there is no {path[:80]!r} here")

    def _put(self) -> None:
        body, found = self._body(), _CLIP.fullmatch(self.path)
        if found is None:
            raise RefusedError(404, f"there is no {self.path[:80]!r} here to save to")
        if self.headers.get_content_type() != "application/json":
            raise RefusedError(415, "captions are sent as application/json")
        self._send_json(self._site.clips.save(found[1], body))

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            raise RefusedError(411, "the request must say its Content-Length")
        if int(length) > MOST_BYTES:
            self._pass_over(min(int(length), 16 * MOST_BYTES))
            raise RefusedError(
                413, f"the request has {length} bytes; at most {MOST_BYTES} are read"
            )
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise RefusedError(400, f"the request ended after {len(body)} of {length} bytes")
        return body

    def _pass_over(self, left: int) -> None:
        """Read what is not wanted: a client that still sends would miss the answer."""
        while left > 0 and (piece := self.rfile.read(min(_PIECE, left))):
            left -= len(piece)

    def _send_json(self, data: Any, status: int = 200) -> None:
        self._send(status, {"Content-Type": "application/json"}, json.dumps(data).encode())

    def _send(self, status: int, headers: dict[str, str], data: bytes = b"") -> None:
        self._start(status, {**headers, "Content-Length": str(len(data))})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        closing = {"Connection": "close"} if self.close_connection else {}
        for name, value in {**_HEADERS, **headers, **closing}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_file(self, path: Path) -> None:
        """A file or, where the request asks for one, a range of it (RFC 9110, 14)."""
        size = path.stat().st_size
        span = _span(self.headers.get("Range"), size)
        if span is None:
            self._send(416, {"Content-Range": f"bytes */{size}"})
            return
        first, last, whole = span
        headers = {
            "Content-Type": "video/mp4",
            "Accept-Ranges": "bytes",
            "Content-Length": str(last + 1 - first),
        }
        if not whole:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self._start(200 if whole else 206, headers)
        if self.command != "HEAD":
            with path.open("rb") as file:
                file.seek(first)
                self._copy(file, last + 1 - first)

    def _copy(self, file: BinaryIO, left: int) -> None:
        while left and (piece := file.read(min(_PIECE, left))):
            self.wfile.write(piece)
            left -= len(piece)
        if left:
            self.close_connection = True


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _span(header: str | None, size: int) -> tuple[int, int, bool] | None:
    """First and last byte to send and whether that is the whole file; None where it lacks the range.

    A header that is not one range of bytes is passed over, as the standard allows.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or found[1] == found[2] == "":
        return 0, size - 1, True
    if not found[1]:
        first, last = max(0, size - int(found[2])), size - 1
        return (first, last, False) if int(found[2]) and size else None
    first, last = int(found[1]), min(int(found[2] or size - 1), size - 1)
    if found[2] and int(found[2]) < int(found[1]):
        return 0, size - 1, True
    return (first, last, False) if first < size else None
