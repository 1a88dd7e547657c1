#!/usr/bin/env python3
"""Send pictures and videos to the web service, wait for them, and download the results:

    python examples/web_client.py FILE ... [--url URL] [--token TOKEN] [--model NAME]
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import requests


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', type=Path)
    parser.add_argument('--url', default='http://127.0.0.1:5000')
    parser.add_argument('--token')
    parser.add_argument('--model', default='')
    args = parser.parse_args()
    session = requests.Session()
    if args.token:
        session.headers['Authorization'] = f'Bearer {args.token}'
    jobs = [(file, submit(session, args.url, file, model=args.model)) for file in args.files]
    failed = False
    for file, job in jobs:
        job = wait(session, args.url, job)
        if job.get('state') == 'done':
            Path(job['name']).write_bytes(session.get(args.url + job['result'], timeout=60).content)
            session.delete(args.url + job['url'], timeout=60)
            print(f'{file} -> {job["name"]}')
        else:
            failed = True
            print(f'{file}: {job["error"]}', file=sys.stderr)
    return int(failed)


def submit(session: requests.Session, url: str, file: Path, **fields: str) -> dict[str, Any]:
    """Send a file, again while the queue is full; return the job, or an error."""
    while True:
        response = session.post(f'{url}/jobs', files={'image': (file.name, file.read_bytes())}, data=fields,
                                timeout=600)
        if response.status_code != 429:
            return response.json()
        time.sleep(int(response.headers['Retry-After']))


def wait(session: requests.Session, url: str, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for the end of a job and return it."""
    while job.get('state') in ('queued', 'running'):
        time.sleep(0.5)
        job = session.get(url + job['url'], timeout=60).json()
    return job


if __name__ == '__main__':
    sys.exit(main())
