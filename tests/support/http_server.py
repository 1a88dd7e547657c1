"""An HTTP server that misbehaves as told; the fixture `http_server` runs it."""
from __future__ import annotations

import contextlib
import re
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class HttpServer:
    """A server on this machine: the files it has, the troubles to come, the requests so far.

    `files` maps request paths to bytes. Each item of `troubles` shapes one GET, in order: a status alone
    (`{'status': 500}`), a cut after so many bytes of the answer (`{'cut_after': 7}`), no ranges (`{'ranges': False}`),
    no length or a wrong one (`{'length': False}`), a URL to go to instead (`{'redirect': url}`), or an event to wait
    for (`{'wait_for': event}`). `seen` lists the requests as (path, headers).
    """

    url: str = ''
    files: dict[str, bytes] = field(default_factory=dict)
    troubles: deque[dict] = field(default_factory=deque)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def paths(self):
        return [path for path, _ in self.seen]

    @property
    def ranges(self):
        return [headers.get('Range') for _, headers in self.seen]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append((handler.path, dict(handler.headers)))
        trouble = self.troubles.popleft() if self.troubles else {}
        if 'wait_for' in trouble:
            trouble['wait_for'].wait(30)
        body = self.files.get(handler.path)
        status, headers = trouble.get('status', 404 if body is None else 200), {'Content-Length': '0'}
        if 'redirect' in trouble:
            status, headers = 302, {'Location': trouble['redirect']}
        rest = b''
        if status == 200:
            asked = trouble.get('ranges', True) and re.fullmatch(r'bytes=(\d+)-', handler.headers.get('Range', ''))
            start = int(asked[1]) if asked else 0
            rest, headers = body[start:], {}
            if asked and start >= len(body):
                status, headers = 416, {'Content-Range': f'bytes */{len(body)}'}
            elif asked:
                status, headers = 206, {'Content-Range': f'bytes {start}-{len(body) - 1}/{len(body)}'}
            if (length := trouble.get('length', len(rest))) is not False:
                headers['Content-Length'] = str(length)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(rest[:trouble.get('cut_after', len(rest))])


@contextlib.contextmanager
def serve() -> Iterator[HttpServer]:
    """Run an `HttpServer` until the context ends."""
    server = HttpServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        def log_message(self, *args):
            pass

    listener = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    listener.daemon_threads = False  # so that closing waits for them
    thread = threading.Thread(target=listener.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    server.url = f'http://127.0.0.1:{listener.server_port}'
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
