"""A Hub of our own on 127.0.0.1, and beside it the host that it sends downloads to."""

import gzip
import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_ours"  # noqa: S105
ADDRESS = "hf://ns/name/ada.safetensors"


@dataclass
class Hub:
    """What the two servers hold, how they behave, and what they saw."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Of the one repository, `ns/name`."""
    sizes: dict[str, int] = field(default_factory=dict)
    """What is said of the size of a file, where that is not the truth."""
    url: str = ""
    storage: str = ""
    ranges: float = math.inf
    """How many requests for a range are honoured."""
    gzip: bool = False
    """Bodies are compressed for who takes that."""
    redirect: bool = False
    """Files are in LFS and lie on the other host."""
    claimed_size: int | None = None
    commit: str | None = COMMIT
    status: int = 200
    """Of every answer about the repository, unless 200."""
    error_code: str = ""
    seen: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    """Host, method and path, `Range` and `Authorization` of each request, in order."""
    sent: list[int] = field(default_factory=list)
    """Bytes of the body of a file, for each time that one was sent."""

    def gets(self) -> list[tuple[str, str, str | None, str | None]]:
        return [entry for entry in self.seen if entry[1].startswith("GET")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # no connection outlives its answer
    hub: Hub
    place: str

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, unquote(self.path.partition("?")[0])
        hub.seen.append(
            (
                self.place,
                f"{self.command} {path}",
                self.headers.get("Range"),
                self.headers.get("Authorization"),
            )
        )
        parts = path.strip("/").split("/")
        if self.place == "storage":
            return self._file(hub.files[path.removeprefix("/blob/")])
        api = parts[:2] == ["api", "models"]
        repo = parts[2:4] if api else parts[:2]
        if hub.status != 200:
            return self._empty(hub.status, {"X-Error-Code": hub.error_code} if hub.error_code else {})
        if repo != ["ns", "name"]:
            return self._empty(401, {"X-Error-Code": "RepoNotFound"})
        revision = parts[5:6] if api else parts[3:4]
        if revision and revision[0] not in {"main", "v1", COMMIT}:
            return self._empty(404, {"X-Error-Code": "RevisionNotFound"})
        if api:
            return self._info()
        name = "/".join(parts[4:])
        headers = {"X-Repo-Commit": hub.commit} if hub.commit else {}
        if name not in hub.files:
            return self._empty(404, headers | {"X-Error-Code": "EntryNotFound"})
        data = hub.files[name]
        if not hub.redirect:
            return self._file(data, headers | {"ETag": f'"{hashlib.sha1(data).hexdigest()}"'})  # noqa: S324
        headers |= {
            "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Linked-Size": str(hub.claimed_size or len(data)),
            "Location": f"{hub.storage}/blob/{name}",
        }
        return self._empty(302, headers)

    def _info(self) -> None:
        names = [{"rfilename": name, "size": self.hub.sizes.get(name, len(data))}
                 for name, data in self.hub.files.items()]  # fmt: skip
        body = json.dumps({"id": "ns/name", "sha": self.hub.commit, "siblings": names}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _empty(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, data: bytes, headers: dict[str, str] | None = None) -> None:
        wanted = self.headers.get("Range") if self.hub.ranges > 0 else None
        self.hub.ranges -= wanted is not None
        total, start = len(data), 0
        if self.hub.gzip and self.command == "GET" and "gzip" in self.headers.get("Accept-Encoding", ""):
            data, headers = gzip.compress(data, 1), (headers or {}) | {"Content-Encoding": "gzip"}
        if wanted is not None:
            first, last = wanted.removeprefix("bytes=").split("-")
            start, data = int(first), data[int(first) : int(last) + 1 if last else None]
        self.send_response(200 if wanted is None else 206)
        if wanted is not None:
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{total}")
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        number = len(self.hub.sent)
        self.hub.sent.append(0)
        with suppress(OSError):  # the client has read enough
            for at in range(0, len(data), 1 << 16):
                self.wfile.write(data[at : at + (1 << 16)])
                self.hub.sent[number] += len(data[at : at + (1 << 16)])


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    servers = []
    for place in ("hub", "storage"):
        handler = type("Handler", (_Handler,), {"hub": hub, "place": place})
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    hub.url, hub.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def with_header(header: bytes, rest: int = 0) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(rest)


def a_tensor(size: int, padding: int = 0) -> bytes:
    entry = {"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    return json.dumps(entry).encode() + b" " * padding
