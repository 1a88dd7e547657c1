"""Serve the application with waitress; clients that send or read too slowly don't hold it up."""
from __future__ import annotations

import json
import threading
import time
from typing import Any, Self

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask
from waitress.utilities import BadRequest

from .settings import Settings

_HEADER_BYTES = 1 << 16
_SPARE_THREADS = 8  # beside one for each client that waits for its picture
_ANSWER_BYTES = 1 << 20  # of an answer that may wait for its client; a thread waits with the rest


class _RequestTimeout(BadRequest):  # type: ignore[misc]  # waitress has no types
    """The request did not come in time."""

    code = 408
    reason = 'Request Timeout'


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Answers what waitress itself refuses as the application does: with JSON."""

    def execute(self) -> None:
        error = self.request.error
        body = json.dumps({'error': f'{error.reason}: {error.body}'}).encode()
        self.status = f'{error.code} {error.reason}'
        self.response_headers.append(('Content-Type', 'application/json'))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that gives a request some time to come, and its client as much to take each part of the answer."""

    error_task_class = _ErrorTask
    seconds = 0.0
    _begun = 0.0

    def received(self, data: bytes) -> bool:
        if self.request is None:  # type: ignore[has-type]
            self._begun = time.monotonic()
        return bool(super().received(data))

    def readable(self) -> bool:  # waitress asks at least once a second
        with self.requests_lock:
            request = self.request  # type: ignore[has-type]
            if (request is not None and not self.requests
                    and not self.close_when_flushed  # type: ignore[has-type]
                    and time.monotonic() - self._begun > self.seconds):
                request.error = _RequestTimeout(f'it took longer than {self.seconds:g} seconds')
                request.completed, self.request = True, None
                self.requests.append(request)
                self.server.add_task(self)
        if self.total_outbufs_len and time.time() - self.last_activity > self.seconds:
            # Waitress would wait until it can write to such a client, which may be never.
            self.handle_close()
            self.will_close = self.close_when_flushed = False
            return False
        return bool(super().readable())


class Server:
    """Serves in a thread of its own; a context manager.

    Args:
        app: The WSGI application.
        settings: Address and limits.

    Attributes:
        port: Where it listens.

    Raises:
        OSError: the address can't be had.
    """

    def __init__(self, app: Any, settings: Settings) -> None:
        self._map: dict[int, Any] = {}  # of sockets; waitress calls it so
        try:
            server = self._create(app, settings)
        except OSError:
            wasyncore.close_all(self._map)  # which waitress leaves open
            raise
        listeners = [each for each in self._map.values() if hasattr(each, 'channel_class')]
        for each in listeners:
            each.channel_class = type('Channel', (_Channel,), {'seconds': settings.max_upload_seconds})
        self.port = listeners[0].effective_port
        self._trigger, self._dispatcher = listeners[0].trigger, server.task_dispatcher
        self._thread = threading.Thread(target=server.run, name='server')

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._dispatcher.shutdown()
        self._trigger.pull_trigger(lambda: wasyncore.close_all(self._map))  # without sockets its loop ends
        self._thread.join()

    def _create(self, app: Any, settings: Settings) -> Any:
        return create_server(
            app, self._map, host=settings.host, port=settings.port, ident='', connection_limit=500,
            threads=settings.queue + settings.workers + _SPARE_THREADS,
            max_request_body_size=settings.max_bytes + _HEADER_BYTES, max_request_header_size=_HEADER_BYTES,
            channel_timeout=max(int(settings.max_upload_seconds) * 2, 60), clear_untrusted_proxy_headers=True,
            outbuf_high_watermark=_ANSWER_BYTES,
            channel_request_lookahead=1)  # without which nobody notices that a client has gone
