"""Let programs of this machine read a depot's files: a web server that nobody else reaches, with ranges."""
from __future__ import annotations

import contextlib
import os
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from .depot import DepotClient

_HOST = '127.0.0.1'


@dataclass
class _Served:
    """A file, whether anybody has asked for it, and what went wrong then."""

    path: Path
    asked: bool = False
    failure: Exception | None = None


class RangeServer:
    """Serves files that lie elsewhere, each under a URL that nobody can guess.

    Args:
        depot: Where they are.
    """

    def __init__(self, depot: DepotClient) -> None:
        for name in ('no_proxy', 'NO_PROXY'):  # which programs started from here obey
            os.environ[name] = ','.join(filter(None, (os.environ.get(name), _HOST)))
        self._served: dict[str, _Served] = {}
        self._server = _Server(depot, self._served)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @contextlib.contextmanager
    def serve(self, path: Path) -> Iterator[str]:
        """Yield the URL of a file, which works inside the block.

        Raises:
            Exception: what went wrong when it was read, though whoever reads it may have taken that for its end.
            RuntimeError: nobody has asked for it.
        """
        url_path = f'/{uuid.uuid4().hex}/{quote(os.fsencode(path.name))}'
        served = self._served[url_path] = _Served(path)
        try:
            yield f'http://{_HOST}:{self._server.server_address[1]}{url_path}'
        finally:
            del self._served[url_path]
            if served.failure is not None:
                raise served.failure
            if not served.asked:
                raise RuntimeError(f'{path}: can\'t be read on this node through a web server of its own')

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, depot: DepotClient, served: dict[str, _Served]) -> None:
        super().__init__((_HOST, 0), _Handler)
        self.depot = depot
        self.served = served


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:  # as the library calls it
        file = self.server.served.get(self.path)
        wanted = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', 'bytes=0-'))
        if file is None or wanted is None:
            self.send_error(404)
            return
        file.asked = True
        try:
            self._send(file.path, int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else None)
        except ConnectionError:  # the reader has what it wanted
            self.close_connection = True
        except Exception as error:
            file.failure = error
            self.close_connection = True

    def _send(self, path: Path, start: int, stop: int | None) -> None:
        depot = self.server.depot
        state = depot.inspect(path)
        size = state[0]
        stop = size if stop is None else min(stop, size)
        self._send_head(start, stop, size)
        for piece in depot.read(path, state, start, stop):
            self.wfile.write(piece)
            start += len(piece)
        if start < stop:
            raise OSError(f'{path}: changed while it was read')

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
