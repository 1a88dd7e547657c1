"""A service of this process on a free port, with limits of the test's own."""
from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests

pytest.importorskip('flask')
pytest.importorskip('waitress')
pytest.importorskip('prometheus_client')

from realesrgan.web.app import create_app
from realesrgan.web.jobs import JobQueue
from realesrgan.web.metrics import Metrics
from realesrgan.web.server import Server
from realesrgan.web.settings import Settings

#: Small, fast, and installed with the package.
MODEL = 'realesr-animevideov3'


@dataclass
class Service:
    """A service that runs, and a client of it."""

    url: str
    folder: Path
    queue: JobQueue
    client: requests.Session

    def send(self, file, name='picture.png', *, to='jobs', field='image', **fields):
        """Upload a file; return the answer."""
        return self.client.post(f'{self.url}/{to}', files={field: (name, file)}, data={'model': MODEL} | fields,
                                timeout=120)

    def get(self, path, **more):
        return self.client.get(f'{self.url}{path}', timeout=60, **more)

    def wait(self, answer):
        """Wait until a job has ended; return what the service says of it."""
        assert answer.status_code == 202, answer.text
        job = self.queue.get(answer.json()['id'])
        assert job.ended.wait(120)
        return self.get(answer.json()['url']).json()

    @property
    def files(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob('*') if path.is_file())


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


def encode(picture, extension='.png'):
    """A picture as the bytes of a file."""
    done, data = cv2.imencode(extension, picture)
    assert done
    return data.tobytes()


def decode(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
