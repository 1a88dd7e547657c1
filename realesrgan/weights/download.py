"""Fetch one file over HTTPS: resumed after a cut, checked against its hash, whole or not at all."""
from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ..errors import DownloadError
from ..files import hash_file

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

_ATTEMPTS = 4
_TIMEOUT_SECONDS = (10, 60)  # to connect; between two pieces
_PIECE_BYTES = 1 << 20
#: The largest networks have a tenth of this.
MOST_BYTES = 4 << 30
_NEARBY = ('.localhost', '.local', '.lan', '.home.arpa', '.internal')  # which no server on the internet is called


def fetch(url: str, target: Path, sha256: str | None = None, *, pause_seconds: float = 1.0) -> Path:
    """Download `url` to `target` and return `target`.

    What has arrived so far is kept in `TARGET.part`. After a cut connection or a server error the download resumes
    from there, and so does a later run if `sha256` can tell that the pieces fit. Proxies are taken from the
    environment (`HTTPS_PROXY`, `NO_PROXY`).

    Args:
        url: An https URL, or an http URL of this machine or its own network.
        target: The final path; missing folders are created.
        sha256: Hex digest that the file must have; None accepts any complete file.
        pause_seconds: Pause before the second attempt; it doubles each time.

    Raises:
        DownloadError: the URL is neither, or leads to another kind of URL; the server refused, there is no network, the
            file is larger than `MOST_BYTES`, or the hash differs. Nothing is left at `target`.
        OSError: the file can't be written.
    """
    _require_safety(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + '.part')
    with _only_process(target):
        if target.exists():
            return target
        if sha256 is None:
            part.unlink(missing_ok=True)
        attempt = 1
        while not _try(url, part, target, is_last=attempt == _ATTEMPTS):
            logger.info('%s: interrupted, trying again', url)
            time.sleep(pause_seconds * 2 ** (attempt - 1))
            attempt += 1
        _verify(part, sha256, url)
        part.replace(target)
    return target


def _try(url: str, part: Path, target: Path, *, is_last: bool) -> bool:
    """Receive what `part` lacks; return whether it is whole, or false if another attempt may succeed.

    Raises:
        DownloadError: none may, or this was the last.
    """
    import requests
    import urllib3
    try:
        _receive(url, part)
    except DownloadError:  # of another kind of URL, or without an end
        part.unlink(missing_ok=True)
        raise
    except requests.HTTPError as error:
        status = error.response.status_code
        if (status < 500 and status not in (408, 429)) or is_last:
            raise DownloadError(f'{url}: the server answered {status} {error.response.reason}') from None
        return False
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if is_last or not _may_pass(error):
            raise DownloadError(f'{url}: {innermost_reason(error)}. Is there a network, or a proxy to set in '
                                f'HTTPS_PROXY? Or fetch the file elsewhere and put it at {target}') from None
        return False
    except ValueError as error:  # a server that tells nonsense
        raise DownloadError(f'{url}: {error}') from None
    return True


def _receive(url: str, part: Path) -> None:
    """Append to `part` what it lacks."""
    import requests
    import urllib3
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    headers = {'Range': f'bytes={have}-', 'Accept-Encoding': 'identity'} if have else {'Accept-Encoding': 'identity'}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS,
                      hooks={'response': _check_redirect}) as response:
        stated = response.headers.get('Content-Range', '')
        if response.status_code == 416 and have:
            if stated == f'bytes */{have}':  # `part` already holds all there is
                return
            part.unlink()
            raise urllib3.exceptions.HTTPError('the server has another file by now')
        response.raise_for_status()
        if response.status_code != 206:
            have = 0
        elif not stated.startswith(f'bytes {have}-'):
            part.unlink()
            raise urllib3.exceptions.HTTPError(f'the server sent {stated or "no range"}, not what follows byte {have}')
        length = response.headers.get('Content-Length')
        total = have + int(length) if length else None
        _require_size(total or 0, url)
        with part.open('ab' if have else 'wb') as file, tqdm(
                total=total, initial=have, unit='B', unit_scale=True, desc=part.stem, disable=None) as bar:
            # read() would discard what arrived before the connection was cut; read1() returns it.
            while piece := response.raw.read1(_PIECE_BYTES, decode_content=True):
                _require_size(file.tell() + len(piece), url)
                file.write(piece)
                bar.update(len(piece))


def _require_safety(url: str) -> None:
    """Refuse what anybody between here and the server could read and change.

    Raises:
        DownloadError: it is neither https nor of a server nearby.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() != 'https' and not _is_nearby(parts.hostname or ''):
        raise DownloadError(f'{url}: only https is safe; http is taken from this machine and its own network only. Use '
                            'https, or fetch the file yourself and give its path')


def _is_nearby(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # Numbers without dots are addresses of anywhere: 16843009 is 1.1.1.1.
        return host.endswith(_NEARBY) or ('.' not in host and re.fullmatch(r'0x[0-9a-f]*|\d*', host) is None)
    return address.is_private or address.is_loopback


def _check_redirect(response: requests.Response, *_: Any, **__: Any) -> None:
    """Refuse to follow a server to another kind of URL, or from elsewhere to a server nearby."""
    if not response.is_redirect:
        return
    try:
        url = urljoin(response.url, response.headers['Location'])
        here, there = urlsplit(response.url), urlsplit(url)
        _require_safety(url)
        if here.scheme != there.scheme or _is_nearby(there.hostname or '') > _is_nearby(here.hostname or ''):
            raise DownloadError(f'{response.url}: the server redirects to {url}, which is not followed')
    except (DownloadError, ValueError):
        response.close()
        raise


def _require_size(count: int, url: str) -> None:
    if count > MOST_BYTES:
        raise DownloadError(f'{url}: sends more than {MOST_BYTES >> 30} GiB, which no network has')


def _verify(part: Path, sha256: str | None, url: str) -> None:
    if sha256 is None:
        if not part.stat().st_size:
            part.unlink()
            raise DownloadError(f'{url}: the server sent an empty file')
        return
    actual = hash_file(part)
    if actual != sha256:
        part.unlink()
        raise DownloadError(f'{url}: the file that arrived is not the one expected and was deleted; '
                            f'its sha256 is {actual}, expected was {sha256}')


def _may_pass(error: Exception) -> bool:
    """Return whether a failed request may succeed on another attempt; without any network it won't."""
    from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, SSLError
    from urllib3.exceptions import LocationParseError, NameResolutionError
    final = (InvalidSchema, InvalidURL, MissingSchema, SSLError, LocationParseError, NameResolutionError)
    return not isinstance(error, final) and not isinstance(_unwrap(error), final)


def innermost_reason(error: Exception) -> str:
    """Return the reason at the core of an error of requests or urllib3, without the address of an object."""
    text = str(_unwrap(error))
    return text.split('>: ', 1)[-1] if '>: ' in text else text


def _unwrap(error: Exception) -> Exception:
    while isinstance(inner := getattr(error, 'reason', None) or (error.args[0] if error.args else None), Exception):
        error = inner
    return error


@contextlib.contextmanager
def _only_process(target: Path) -> Iterator[None]:
    """Keep other processes from fetching `target` meanwhile."""
    from filelock import FileLock, Timeout

    lock_file = target.with_name(f'.{target.name}.lock')
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        logger.info('%s: waiting for another process that downloads it', target)
        lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not delete an open file
            lock_file.unlink()
        lock.release()
