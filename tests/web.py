"""A loopback server of files that can break off, and that counts what it is asked."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """``files`` holds what is served by name; ``cut`` the bytes after which to break off, once."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}
        self.fail: dict[str, int] = {}  # name: how often to answer 503
        self.headers: dict[str, dict[str, str]] = {}  # name: those of the answer, beside or instead
        self.moved: dict[str, str] = {}  # name: address that it is redirected to
        self.trickle: dict[str, float] = {}  # name: seconds after each byte
        self.asked: list[tuple[str, str | None]] = []  # name, range
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def address(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, name = self.server, self.path.lstrip("/")
        server.asked.append((name, self.headers.get("Range")))
        if name in server.moved:
            self.send_response(302)
            self.send_header("Location", server.moved[name])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if name not in server.files:
            return self.send_error(404)
        if server.fail.get(name, 0) > 0:
            server.fail[name] -= 1
            return self.send_error(503)
        content = server.files[name]
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        if start >= len(content) > 0:
            return self.send_error(416)
        body = content[start:]
        self.send_response(206 if start else 200)
        headers = {"Content-Length": str(len(body))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        for header, value in (headers | server.headers.get(name, {})).items():
            self.send_header(header, value)
        self.end_headers()
        if name in server.trickle:
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(server.trickle[name])
        self.wfile.write(body[: server.cut.pop(name, None)])
