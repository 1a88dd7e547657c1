"""Connect to a Ray cluster, and say in one line why that can't be done."""
from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import ClusterError, flatten_message
from ..weights.sources import PROJECT

logger = logging.getLogger(__name__)

_AUTO, _LOCAL = 'auto', 'local'  # addresses: the cluster that this machine belongs to, and one of its own
_CURRENT = Path('/tmp/ray/ray_current_cluster')  # noqa: S108  # Ray's own; it stays when the cluster is gone
_TOKEN, _TOKENS = Path('~/.ray/auth_token'), ('RAY_AUTH_TOKEN', 'RAY_AUTH_TOKEN_PATH')
_SECONDS_TO_CONNECT = 10
# How a client of HTTP/2, which gRPC is based on, begins; and what kind of frame its server begins with.
_SETTINGS = b'\x04'
_GREETING = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + b'\x00\x00\x00' + _SETTINGS + bytes(5)


def import_ray(address: str) -> ModuleType:
    """Import Ray, with the settings that it reads then.

    Raises:
        ClusterError: it is not installed.
    """
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    if address != _LOCAL:
        os.environ.setdefault('RAY_NUM_REDIS_GET_RETRIES', '3')  # times that it tries to connect
    if any(name in os.environ for name in _TOKENS) or _TOKEN.expanduser().is_file():
        os.environ.setdefault('RAY_AUTH_MODE', 'token')  # Ray itself does so for `auto` only
    try:
        import ray
    except ImportError:
        raise ClusterError('--cluster needs ray: pip install \'realesrgan[cluster]\', or ray') from None
    return ray


def connect(ray: Any, address: str) -> None:
    """Connect this process to a cluster.

    Raises:
        ClusterError: it is not there, or does not let this process in.
    """
    before = signal.getsignal(signal.SIGTERM)
    host, _, port = (_read_own_address() if address == _AUTO else address).rpartition(':')
    try:
        if host and port.isdecimal():  # ray itself would try for minutes
            _knock(host.strip('[]'), int(port))
        with _silenced():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR,
                     runtime_env={'env_vars': {'PYTHONPATH': str(PROJECT)}})
        ray._private.worker.print_to_stdstream = _log  # or it prints all that a node has logged before it died
    except UnicodeEncodeError:
        raise ClusterError('Ray can\'t be told names that are not UTF-8; give the folder that holds them') from None
    except Exception as error:  # of many kinds
        logger.debug('%s', error)
        if 'token' in f'{error} {error.__cause__}':
            raise ClusterError(f'the cluster at {address} asks for a token: copy ~/.ray/auth_token of its head to '
                               'this machine') from None
        raise ClusterError(f'there is no cluster at {address}: {flatten_message(error)[:300]}; ray start --head '
                           'makes one') from None
    finally:
        with contextlib.suppress(ValueError, TypeError):  # not in the main thread, or not Python's
            signal.signal(signal.SIGTERM, before)  # Ray has put its own there, which prints a stack


def _knock(host: str, port: int) -> None:
    """Find out whether a server at an address speaks gRPC, as Ray's head does.

    Raises:
        OSError: there is none, or it does not.
    """
    with socket.create_connection((host, port), _SECONDS_TO_CONNECT) as connection:
        if 'RAY_USE_TLS' in os.environ:
            return
        connection.sendall(_GREETING)
        if connection.recv(4)[3:] != _SETTINGS:
            raise OSError('what answers there is no head of Ray')


def _log(data: object, **_: object) -> None:
    logger.debug('%s', data)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Drop what is written to stderr: Ray's own library tells each second that a token is wrong."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open('wb') as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _read_own_address() -> str:
    """Return where Ray will look for the cluster of this machine; '' if it has none."""
    with contextlib.suppress(OSError):
        return os.environ.get('RAY_ADDRESS') or _CURRENT.read_text().strip()
    return ''
