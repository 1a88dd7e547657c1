"""Serve the application with waitress; uploads that take too long are answered and ended."""
from __future__ import annotations

import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.server import MultiSocketServer, create_server
from waitress.utilities import BadRequest

from .settings import Settings

_HEADER_BYTES = 1 << 16
_SPARE_THREADS = 8  # beside one for each client that waits for its picture


class _RequestTimeout(BadRequest):  # type: ignore[misc]  # waitress has no types
    """The request did not come in time."""

    code = 408
    reason = 'Request Timeout'


def make_server(app: Any, settings: Settings) -> Any:
    """Return a waitress server of an application; its `run` serves until it is interrupted."""
    class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
        """A connection that gives a request some time to come."""

        _begun = 0.0

        def received(self, data: bytes) -> bool:
            if self.request is None:  # type: ignore[has-type]
                self._begun = time.monotonic()
            return bool(super().received(data))

        def readable(self) -> bool:  # waitress asks at least once a second
            with self.requests_lock:
                request = self.request  # type: ignore[has-type]
                if (request is not None and not self.requests and not self.close_when_flushed
                        and time.monotonic() - self._begun > settings.max_upload_seconds):
                    request.error = _RequestTimeout(f'it took longer than {settings.max_upload_seconds:g} seconds')
                    request.completed, self.request = True, None
                    self.requests.append(request)
                    self.server.add_task(self)
            return bool(super().readable())

    server = create_server(
        app, host=settings.host, port=settings.port, threads=settings.queue + settings.workers + _SPARE_THREADS,
        max_request_body_size=settings.max_bytes + _HEADER_BYTES, max_request_header_size=_HEADER_BYTES,
        channel_timeout=max(int(settings.max_upload_seconds) * 2, 60), connection_limit=500, ident='',
        clear_untrusted_proxy_headers=True)
    servers = [dispatcher for dispatcher in server.map.values() if hasattr(dispatcher, 'channel_class')] if isinstance(
        server, MultiSocketServer) else [server]
    for each in servers:
        each.channel_class = Channel
    return server
