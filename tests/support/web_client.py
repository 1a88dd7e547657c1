"""A client of services under test, and pictures to send."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import requests

#: Small, fast, and installed with the package.
MODEL = 'realesr-animevideov3'


@dataclass
class Service:
    """A service that runs, and a client of it."""

    url: str
    folder: Path
    queue: Any
    client: requests.Session

    def send(self, file, name='picture.png', *, to='jobs', field='image', **fields):
        """Upload a file; return the answer."""
        return self.client.post(f'{self.url}/{to}', files={field: (name, file)}, data={'model': MODEL} | fields,
                                timeout=120)

    def get(self, path, **more):
        return self.client.get(f'{self.url}{path}', timeout=60, **more)

    def remove(self, answer):
        assert self.client.delete(f'{self.url}{answer.json()["url"]}').status_code == 204

    def wait(self, answer):
        """Wait until a job has ended; return what the service says of it."""
        assert answer.status_code == 202, answer.text
        job = self.queue.get(answer.json()['id'])
        assert job.ended.wait(120)
        return self.get(answer.json()['url']).json()

    @property
    def files(self):
        return sorted(str((Path(folder) / name).relative_to(self.folder))
                      for folder, _, names in os.walk(self.folder) for name in names)  # where folders may vanish


class Command:
    """`python -m realesrgan.web` in a process of its own, on a free port of this machine."""

    def __init__(self, start_program, *arguments, folder=None):
        self.process = start_program([sys.executable, '-m', 'realesrgan.web', *arguments, '--port', '0'], cwd=folder,
                                     stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        found = re.fullmatch(r'http://[\d.]+:(\d+)/\n', line)
        assert found, line
        self.url = f'http://127.0.0.1:{found[1]}'

    def end(self, number=signal.SIGINT):
        """Send a signal; return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


def wait_until(happens):
    deadline = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def encode(picture, extension='.png'):
    """A picture as the bytes of a file."""
    return cv2.imencode(extension, picture)[1].tobytes()


def decode(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
