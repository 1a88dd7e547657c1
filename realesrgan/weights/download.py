"""Fetch one file over HTTPS: resumed after a cut, checked against its hash, whole or not at all."""
from __future__ import annotations

import contextlib
import ipaddress
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3 import Retry
from urllib3.exceptions import HTTPError, ProtocolError

from ..errors import DownloadError
from ..files import hash_file

logger = logging.getLogger(__name__)

#: Pause before the third attempt is twice this; it doubles each time.
BACKOFF_SECONDS = 1.0
#: The largest networks have a tenth of this.
MOST_BYTES = 4 << 30
_TIMEOUT_SECONDS = (10, 60)  # to connect; between two pieces
_PIECE_BYTES = 1 << 20


def fetch(url: str, target: Path, sha256: str | None = None) -> Path:
    """Download `url` to `target` and return `target`.

    Whatever has arrived is kept in `TARGET.part`. After a cut connection or a server error the download resumes from
    there, and so does a later run if `sha256` can tell that the pieces fit. Proxies are taken from the environment
    (`HTTPS_PROXY`, `NO_PROXY`).

    Args:
        url: An https URL, or an http URL of this machine.
        target: The final path; missing folders are made, and do not stay if nothing arrives.
        sha256: Hex digest that the file must have; None accepts any complete file.

    Raises:
        DownloadError: the URL is neither, or leads to another kind of URL; the server refused, there is no network, the
            file is larger than `MOST_BYTES`, or the hash differs. Nothing is left at `target`.
        OSError: the file can't be written.
    """
    retries = Retry(3, connect=1, other=0, status_forcelist=(408, 429, *range(500, 600)), raise_on_status=False,
                    respect_retry_after_header=False, backoff_factor=BACKOFF_SECONDS)
    part = target.with_name(target.name + '.part')
    with _open_session(url, retries) as session, _made_folders(target.parent), _only_process(target):
        if target.exists():
            return target
        if sha256 is None:
            part.unlink(missing_ok=True)
        try:
            _receive_all(session, url, part, retries)
            _verify(part, sha256)
        except DownloadError as error:
            raise DownloadError(f'{url}: {error}') from None
        except (requests.RequestException, HTTPError, ValueError) as error:  # ValueError: a malformed answer
            raise DownloadError(f'{url}: {_find_reason(error)}. Is there a network, or a proxy to set in '
                                f'HTTPS_PROXY? Or fetch the file elsewhere and put it at {target}') from None
        part.replace(target)
    return target


class _OtherUrls(HTTPAdapter):
    """Refuses to follow a server to a kind of URL that no other adapter serves."""

    def send(self, request: requests.PreparedRequest, *_args: Any, **_options: Any) -> requests.Response:
        raise DownloadError(f'the server redirects to {request.url}, which is not https and is not followed')


def _open_session(url: str, retries: Retry) -> requests.Session:
    """Return a session that follows no server to another kind of URL, which others could read and change on the way.

    Raises:
        DownloadError: the URL itself is of such a kind.
    """
    session = requests.Session()
    session.adapters.clear()
    session.mount('', _OtherUrls())
    session.mount('https://', HTTPAdapter(max_retries=retries))
    parts = urlsplit(url)
    if parts.scheme.lower() == 'http' and _is_this_machine(parts.hostname or ''):
        session.mount(f'http://{parts.netloc}/', HTTPAdapter(max_retries=retries))
    elif parts.scheme.lower() != 'https':
        raise DownloadError(f'{url}: only https is safe, or http on this machine. Use https, or fetch the file '
                            'yourself and give its path')
    return session


def _is_this_machine(host: str) -> bool:
    try:
        return host == 'localhost' or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _receive_all(session: requests.Session, url: str, part: Path, retries: Retry) -> None:
    """Complete `part`. The session retries requests; connections that are cut later are resumed here.

    Raises:
        requests.RequestException, HTTPError: it can't be completed.
    """
    while True:
        try:
            _receive(session, url, part)
            return
        except HTTPError as error:
            retries = retries.increment('GET', url, error=error)
            logger.info('%s: interrupted, trying again', url)
            retries.sleep()


def _receive(session: requests.Session, url: str, part: Path) -> None:
    """Append the rest of the file to `part`."""
    have = part.stat().st_size if part.exists() else 0
    headers = {'Range': f'bytes={have}-', 'Accept-Encoding': 'identity'} if have else {'Accept-Encoding': 'identity'}
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
        stated = response.headers.get('Content-Range', '')
        if response.status_code == 416 and stated == f'bytes */{have}':  # `part` is whole already
            return
        if have and (response.status_code == 416 or (
                response.status_code == 206 and not stated.startswith(f'bytes {have}-'))):
            part.unlink()
            raise ProtocolError(f'the server has another file by now: it sent {stated or "no range"}, not the bytes '
                                f'from {have} on')
        if not response.ok:
            raise DownloadError(f'the server answered {response.status_code} {response.reason}')
        if response.status_code != 206:
            have = 0
        length = response.headers.get('Content-Length')
        total = have + int(length) if length else None
        with part.open('ab' if have else 'wb') as file, tqdm(
                total=total, initial=have, unit='B', unit_scale=True, desc=part.stem, disable=None) as bar:
            # read() would discard whatever arrived before the connection was cut; read1() returns it.
            while (total or 0) <= MOST_BYTES and (piece := response.raw.read1(_PIECE_BYTES, decode_content=True)):
                file.write(piece)
                bar.update(len(piece))
                total = max(total or 0, file.tell())
    if (total or 0) > MOST_BYTES:
        part.unlink()
        raise DownloadError(f'the server sends more than {MOST_BYTES >> 30} GiB, which no network has')


def _verify(part: Path, sha256: str | None) -> None:
    """Delete a file that is not the one expected.

    Raises:
        DownloadError: it is not.
    """
    if sha256 is None and part.stat().st_size:
        return
    actual = hash_file(part)
    if actual != sha256:
        part.unlink()
        raise DownloadError('the server sent an empty file' if sha256 is None else
                            'the file that arrived is not the one expected and was deleted; '
                            f'its sha256 is {actual}, expected was {sha256}')


def _find_reason(error: Exception) -> str:
    """Return the reason at the core of an error of requests or urllib3, without the address of an object."""
    while isinstance(inner := getattr(error, 'reason', None) or (error.args[0] if error.args else None), Exception):
        error = inner
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return text.split('>: ', 1)[-1]


@contextlib.contextmanager
def _made_folders(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; remove those that were made and are empty in the end."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the first that is not empty
            for path in made:
                path.rmdir()


@contextlib.contextmanager
def _only_process(target: Path) -> Iterator[None]:
    """Keep other processes from fetching `target` meanwhile."""
    lock = FileLock(target.with_name(f'.{target.name}.lock'))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        logger.info('%s: waiting for another process that downloads it', target)
        lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not delete an open file, but filelock does when it closes
            Path(lock.lock_file).unlink()
        lock.release()
