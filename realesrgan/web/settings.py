"""The limits and other settings of the service: the options of `python -m realesrgan.web`."""
from __future__ import annotations

import ipaddress
from typing import Any

from ..errors import UsageError
from ..options import CheckedOptions, RunOptions, check_number, check_path, option, same_option


def _limit(default: float, flag: str, help: str) -> Any:
    """Return the field of a count, or of seconds if it is no integer."""
    is_count = isinstance(default, int)
    return option(default, flag, group='limits', check=check_number(int, 1) if is_count else check_number(float, 0.001),
                  metavar='COUNT' if is_count else 'SECONDS', help=help)


class Settings(CheckedOptions):
    """Settings of a service. Wrong ones raise `UsageError`."""

    host: str = option('127.0.0.1', '--host', group='address', help='address to listen on')
    port: int = option(
        5000, '--port', group='address', check=check_number(int, 0, 65535), help='port; 0 for any free one')
    token: str | None = option(
        None, '--token', group='address', check=check_path, metavar='TEXT',
        help='token that clients must send; needed if others can reach --host')
    no_auth: bool = option(False, '--no_auth', group='address', help='let everyone in who can reach --host')
    allow_host: tuple[str, ...] = option(
        (), '--allow_host', group='address', check=lambda names: (names,) if isinstance(names, str) else tuple(names),
        metavar='NAME',
        help='further names of a local service, for a proxy')
    max_bytes: int = _limit(250_000_000, '--max_bytes', 'bytes of an upload')
    max_pixels: int = _limit(25_000_000, '--max_pixels', 'pixels of a picture or frame')
    max_seconds: float = _limit(60.0, '--max_seconds', 'length of a video')
    max_job_seconds: float = _limit(3600.0, '--max_job_seconds', 'how long a job may run')
    max_upload_seconds: float = _limit(300.0, '--max_upload_seconds', 'how long an upload may pause')
    max_age: float = _limit(3600.0, '--max_age', 'how long results, and files after their last use, are kept')
    queue: int = _limit(8, '--queue', 'how many jobs may wait')
    workers: int = _limit(1, '--workers', 'how many jobs run at once, each in a process')
    models_kept: int = _limit(2, '--models_kept', 'models that each worker keeps loaded')
    folder: str | None = option(
        None, '--folder', group='files', check=check_path, metavar='FOLDER', default_text='the system\'s',
        help='folder of all temporary files')
    fp32: bool = same_option(RunOptions, 'fp32')
    engine: str = same_option(RunOptions, 'engine')
    gpu_id: tuple[int, ...] = same_option(RunOptions, 'gpu_id')
    log: str | None = same_option(RunOptions, 'log')

    def _check_together(self) -> None:
        if not is_loopback(self.host) and self.token is None and not self.no_auth:
            raise UsageError(f'--host {self.host} can be reached by others: set --token, or --no_auth if everybody may '
                             'use this service')


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address, in brackets or not, is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip('[]')).is_loopback
    except ValueError:
        return host.lower() == 'localhost'
