"""A service of this process on a free port, with limits of the test's own."""
from __future__ import annotations

from contextlib import ExitStack

import pytest
import requests

from tests.support.web_client import Service, wait_until

pytest.importorskip('flask')
pytest.importorskip('waitress')
pytest.importorskip('prometheus_client')

from realesrgan.web.server import run_service
from realesrgan.web.settings import Settings


@pytest.fixture
def short_waits(monkeypatch):
    """Clients of a full queue are told to come back in a second, and old results are looked for all the time."""
    monkeypatch.setattr('realesrgan.web.jobs.FIRST_GUESS', 1.0)
    monkeypatch.setattr('realesrgan.web.jobs.SECONDS_BETWEEN_CLEANINGS', 0.1)


@pytest.fixture(scope='module')
def warm(tmp_path_factory):
    """The folder, the address and the queue of a service with the usual settings."""
    folder = tmp_path_factory.mktemp('warm')
    with run_service(Settings(port=0), folder) as (port, queue):
        yield folder, port, queue


@pytest.fixture
def serve(tmp_path, monkeypatch, request):
    """Start services, which end with the test; those with the usual settings are the `warm` one without jobs."""
    for name in ('HTTP_PROXY', 'ALL_PROXY', 'http_proxy', 'all_proxy'):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        def start(*, fresh=False, **settings):
            if settings or fresh:
                folder = tmp_path / f'service-{len(list(tmp_path.iterdir()))}'
                folder.mkdir()
            else:
                folder, port, queue = request.getfixturevalue('warm')
                stack.callback(remove_jobs, queue)
            monkeypatch.setattr('tempfile.tempdir', str(folder))
            if settings or fresh:
                port, queue = stack.enter_context(run_service(Settings(port=0, **settings), folder))
            return Service(f'http://127.0.0.1:{port}', folder, queue, stack.enter_context(requests.Session()))
        yield start


def remove_jobs(queue):
    for upload in list(queue._uploads.values()):
        queue.remove_upload(upload)
    for job in queue.list_jobs():
        queue.remove(job)
    wait_until(lambda: not queue.list_jobs())
