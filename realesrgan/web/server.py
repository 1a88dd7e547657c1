"""A running service: its folder, its queue of jobs, and the application under waitress."""
from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from waitress import wasyncore
from waitress.server import create_server

from .app import Metrics, create_app
from .jobs import JobQueue
from .settings import Settings

_PREFIX = 'service-'
_HEADER_BYTES = 1 << 16
_SPARE_THREADS = 8  # beside one for each client that waits for its picture


@contextlib.contextmanager
def run_service(settings: Settings, folder: Path) -> Iterator[tuple[int, JobQueue]]:
    """Run a service in threads as long as the block runs; yield its port and its queue.

    Args:
        settings: Address and limits.
        folder: Where everything temporary goes.

    Raises:
        OSError: the address can't be had.
    """
    metrics = Metrics()
    queue = JobQueue(settings, metrics.count_job)
    sockets: dict[int, Any] = {}
    try:
        server = create_server(
            create_app(settings, folder, queue, metrics), sockets, host=settings.host, port=settings.port, ident='',
            connection_limit=500, threads=settings.queue + settings.workers + _SPARE_THREADS,
            # Beside the file a form has some fields. This is the only limit: larger requests end at their header.
            max_request_body_size=settings.max_bytes + _HEADER_BYTES, max_request_header_size=_HEADER_BYTES,
            channel_timeout=math.ceil(settings.max_upload_seconds),
            cleanup_interval=min(math.ceil(settings.max_upload_seconds), 30),
            clear_untrusted_proxy_headers=True,
            outbuf_high_watermark=sys.maxsize,  # a client that reads slowly holds a file, not a thread
            channel_request_lookahead=1)  # without which nobody notices that a client has gone
    except OSError:
        wasyncore.close_all(sockets)  # which waitress leaves open
        raise
    listener = next(each for each in sockets.values() if hasattr(each, 'effective_port'))
    thread = threading.Thread(target=server.run, name='server')
    thread.start()
    try:
        with queue:
            yield listener.effective_port, queue
    finally:
        server.task_dispatcher.shutdown()
        listener.trigger.pull_trigger(lambda: wasyncore.close_all(sockets))  # without sockets its loop ends
        thread.join()


@contextlib.contextmanager
def open_folder(base: str | None) -> Iterator[Path]:
    """Yield a new folder that nobody else can read, and remove it in the end. Python's temporary files go there too.

    Folders of services that were killed are removed first: the lock of one that lives is held.

    Args:
        base: The folder that services of this user share; None for one in the system's own for temporary files.

    Raises:
        OSError: it can't be made, or belongs to somebody else.
    """
    user = os.getuid() if hasattr(os, 'getuid') else os.environ.get('USERNAME', '')
    shared = Path(base or Path(tempfile.gettempdir()) / f'realesrgan-web-{user}').absolute()  # Flask sends no others
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, 'getuid') and shared.stat().st_uid != os.getuid():
        raise PermissionError(f'{shared} belongs to another user; name another folder with --folder')
    for left in shared.glob(f'{_PREFIX}*'):
        if left.is_dir() and not left.is_symlink():
            with contextlib.suppress(Timeout, OSError), FileLock(f'{left}.lock', timeout=0):
                shutil.rmtree(left, ignore_errors=True)
                Path(f'{left}.lock').unlink(missing_ok=True)
    folder = shared / f'{_PREFIX}{secrets.token_hex(8)}'
    with FileLock(f'{folder}.lock'):  # before the folder is there, or another service would take it for a dead one's
        folder.mkdir(mode=0o700)
        before, tempfile.tempdir = tempfile.tempdir, str(folder)  # which Flask and waitress use
        try:
            yield folder
        finally:
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                Path(f'{folder}.lock').unlink(missing_ok=True)
