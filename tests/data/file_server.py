"""A web server on loopback that serves one file, as badly as it is told to."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import threading


class FileServer(ThreadingHTTPServer):
    """Serves `content` under any path, and remembers what was asked for.

    A request takes the next of `statuses`, an error, and else the next of `cuts`, a
    number of bytes after which the connection ends. After `stall_after` bytes nothing
    more comes until the event `go`.
    """

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.has_ranges = content, True
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.stall_after: int | None = None
        self.go = threading.Event()
        self.ranges: list[str | None] = []  # of each request
        self.num_bytes = 0  # served in all

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/texts/topics.txt"

    def handle_error(self, request, client_address) -> None:
        """Clients that are killed are no error here."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.ranges.append(asked)
        if server.statuses:
            return self.send_error(server.statuses.pop(0))
        begin = 0
        if asked and server.has_ranges:
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
        if begin and begin >= len(server.content):
            return self.send_error(416)
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(server.content) - begin))
        self.end_headers()
        end = begin + server.cuts.pop(0) if server.cuts else len(server.content)
        if server.stall_after is not None:
            self._send(begin, middle := begin + server.stall_after)
            server.go.wait()
            begin = middle
        self._send(begin, end)

    def _send(self, begin: int, end: int) -> None:
        block = self.server.content[begin:end]
        self.server.num_bytes += len(block)
        self.wfile.write(block)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""
