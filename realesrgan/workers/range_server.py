"""Let programs of this machine read a depot's files: a web server that nobody else reaches, with ranges."""
from __future__ import annotations

import contextlib
import re
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from .depot import DepotClient


class RangeServer:
    """Serves files that lie elsewhere, each under a URL that nobody can guess.

    Args:
        depot: Where they are.
    """

    def __init__(self, depot: DepotClient) -> None:
        self._served: dict[str, Path] = {}
        self._failures: dict[Path, Exception] = {}
        self._server = ThreadingHTTPServer(('127.0.0.1', 0), _make_handler(depot, self._served, self._failures))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @contextlib.contextmanager
    def serve(self, path: Path) -> Iterator[str]:
        """Yield the URL of a file, which works inside the block.

        Raises:
            Exception: what went wrong when it was read, though whoever reads it may have taken that for its end.
        """
        url_path = f'/{uuid.uuid4().hex}/{quote(path.name)}'
        self._served[url_path] = path
        try:
            yield f'http://127.0.0.1:{self._server.server_address[1]}{url_path}'
        finally:
            del self._served[url_path]
            failure = self._failures.pop(path, None)
            if failure is not None:
                raise failure

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


def _make_handler(depot: DepotClient, served: dict[str, Path],
                  failures: dict[Path, Exception]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:  # as the library calls it
            path = served.get(self.path)
            wanted = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', 'bytes=0-'))
            if path is None or wanted is None:
                self.send_error(404)
                return
            try:
                size = depot.measure(path)
                start = int(wanted[1])
                stop = min(int(wanted[2]) + 1 if wanted[2] else size, size)
                self._send_head(start, stop, size)
                for piece in depot.read(path, start, stop):
                    self.wfile.write(piece)
                    start += len(piece)
                if start < stop:
                    raise OSError(f'{path}: became shorter while it was read')
            except ConnectionError:  # the reader has what it wanted
                self.close_connection = True
            except Exception as error:
                failures[path] = error
                self.close_connection = True

        def _send_head(self, start: int, stop: int, size: int) -> None:
            if start >= size:
                self.send_response(416)
                self.send_header('Content-Range', f'bytes */{size}')
                self.send_header('Content-Length', '0')
            else:
                self.send_response(206)
                self.send_header('Content-Range', f'bytes {start}-{stop - 1}/{size}')
                self.send_header('Content-Length', str(stop - start))
            self.send_header('Accept-Ranges', 'bytes')
            self.end_headers()
    return Handler
