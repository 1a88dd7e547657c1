#!/usr/bin/env python3
"""Load the web service with many clients at once, check every answer, and see what is left:

    python benchmarks/web_load.py --clients 8 --seconds 120
    python benchmarks/web_load.py --clients 50 --queue 8 --seconds 60

Every answer must be the right picture or 429. Memory is that of the service and its workers, after a warm-up and in the
end.
"""
from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import psutil
import requests

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))

from realesrgan.pictures import PictureOptions, upscale_pictures  # noqa: E402

MODEL = 'realesr-animevideov3'
SIZES = (40, 64), (64, 48), (31, 33), (80, 80)


def make_pictures(folder: Path) -> dict[bytes, bytes]:
    """Return the files that clients send, and the right answers."""
    answers = {}
    for index, size in enumerate(SIZES):
        path = folder / f'{index}.png'
        cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8))
        [outcome] = upscale_pictures(path, folder / 'out', PictureOptions(model_name=MODEL))
        assert outcome.target is not None
        answers[path.read_bytes()] = outcome.target.read_bytes()
    return answers


def measure_memory(process: psutil.Process) -> float:
    """Return the MiB of a process and its children that are theirs alone."""
    return sum(each.memory_full_info().uss for each in (process, *process.children(recursive=True))) / 2 ** 20


def ask(url: str, answers: dict[bytes, bytes], seconds: float, seed: int, counts: Counter[str]) -> None:
    """Send pictures, one after the other, for some time."""
    choose, files, end = np.random.default_rng(seed), list(answers), time.monotonic() + seconds
    with requests.Session() as session:
        while time.monotonic() < end:
            file = files[choose.integers(len(files))]
            response = session.post(f'{url}enhance', files={'image': ('a.png', file)}, data={'model': MODEL},
                                    timeout=120)
            if response.status_code == 200:
                counts['right' if response.content == answers[file] else 'WRONG'] += 1
            elif response.status_code == 429 and int(response.headers['Retry-After']) >= 1:
                counts['429'] += 1
                time.sleep(0.2)  # less than it was told: a rude client
            else:
                counts[f'UNEXPECTED {response.status_code}: {response.text[:100]}'] += 1


def load(clients: int, queue: int, seconds: float) -> dict[str, object]:
    """Run a service under load; return what was seen."""
    with tempfile.TemporaryDirectory() as name:
        folder, counts = Path(name), Counter[str]()
        answers = make_pictures(folder)
        service = subprocess.Popen(
            [sys.executable, '-m', 'realesrgan.web', '--port', '0', '--folder', folder / 'service', '--queue',
             str(queue)], cwd=PROJECT, stderr=subprocess.PIPE, text=True)
        assert service.stderr is not None
        try:
            url = service.stderr.readline().strip()
            assert re.fullmatch(r'http://127\.0\.0\.1:\d+/', url), url + service.stderr.read()
            reader = threading.Thread(target=service.stderr.read)
            reader.start()
            process = psutil.Process(service.pid)
            ask(url, answers, min(seconds / 4, 10), 0, Counter())
            run_clients(url, answers, min(seconds / 4, 30), clients, Counter())  # until every thread has had its turn
            before = measure_memory(process)
            run_clients(url, answers, seconds, clients, counts)
            time.sleep(1)
            after = measure_memory(process)
            left = [path.name for path in (folder / 'service').rglob('*') if path.is_file() and path.suffix != '.lock']
        finally:
            service.terminate()
            service.wait(60)
            reader.join()
            service.stderr.close()
        return {'clients': clients, 'queue': queue, 'seconds': seconds, **counts, 'MiB after warm-up': round(before),
                'MiB in the end': round(after), 'change': f'{after / before - 1:+.1%}', 'files left': len(left),
                'left after the end': len(list((folder / 'service').iterdir()))}


def run_clients(url: str, answers: dict[bytes, bytes], seconds: float, clients: int, counts: Counter[str]) -> None:
    """Let clients ask at the same time."""
    threads = [threading.Thread(target=ask, args=(url, answers, seconds, seed, counts)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--clients', type=int, default=8)
    parser.add_argument('--queue', type=int, default=8)
    parser.add_argument('--seconds', type=float, default=120)
    args = parser.parse_args()
    seen = load(args.clients, args.queue, args.seconds)
    for name, value in seen.items():
        print(f'| {name} | {value} |')
    return int(any(name == 'WRONG' or name.startswith('UNEXPECTED') for name in seen) or bool(seen['files left']))


if __name__ == '__main__':
    sys.exit(main())
