"""A service of this process on a free port, with limits of the test's own."""
from __future__ import annotations

from contextlib import ExitStack

import pytest
import requests
from web_client import Service

pytest.importorskip('flask')
pytest.importorskip('waitress')
pytest.importorskip('prometheus_client')

from realesrgan.web.app import create_app
from realesrgan.web.jobs import JobQueue
from realesrgan.web.metrics import Metrics
from realesrgan.web.server import Server
from realesrgan.web.settings import Settings


@pytest.fixture
def short_waits(monkeypatch):
    """Clients of a full queue are told to come back in a second, and old results are looked for all the time."""
    monkeypatch.setattr('realesrgan.web.jobs._FIRST_GUESS', 1.0)
    monkeypatch.setattr('realesrgan.web.jobs._SECONDS_BETWEEN_CLEANINGS', 0.1)


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Start services, which end with the test."""
    for name in ('HTTP_PROXY', 'ALL_PROXY', 'http_proxy', 'all_proxy'):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        def start(**settings):
            folder = tmp_path / f'service-{len(list(tmp_path.iterdir()))}'
            folder.mkdir()
            monkeypatch.setattr('tempfile.tempdir', str(folder))
            chosen = Settings(**{'folder': folder, 'port': 0} | settings)
            metrics = Metrics()
            queue = JobQueue(chosen, metrics.count_job)
            metrics.watch(queue)
            server = stack.enter_context(Server(create_app(chosen, queue, metrics), chosen))
            stack.enter_context(queue)
            return Service(f'http://127.0.0.1:{server.port}', folder, queue,
                           stack.enter_context(requests.Session()))
        yield start
