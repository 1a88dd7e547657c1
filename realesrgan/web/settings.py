"""What the service may be asked, and how much of it."""
from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError


@dataclass(frozen=True)
class Settings:
    """Settings of a service. Wrong combinations raise `UsageError`.

    Attributes:
        folder: Where everything temporary goes.
        host, port: Where it listens.
        token: What clients must show, or None.
        no_auth: Whether an address that others reach may go without a token.
        allowed_hosts: Further names under which clients reach it, through a proxy.
        engine, fp32: How networks run, as the scripts' options say.
        gpu_id: GPUs that the workers share in turn; none for the first, or the CPU.
        workers: How many jobs run at once, each in a process.
        models_kept: How many models each worker keeps loaded.
        queue: How many jobs may wait.
        max_bytes: Of an upload.
        max_pixels: Of a picture or a frame.
        max_seconds: Of a video.
        max_job_seconds: How long a job may run.
        max_upload_seconds: How long an upload may take, and how long a client may take nothing of its result.
        max_age: Seconds after which what has ended is removed.
    """

    folder: Path
    host: str = '127.0.0.1'
    port: int = 5000
    token: str | None = None
    no_auth: bool = False
    allowed_hosts: tuple[str, ...] = ()
    engine: str = 'auto'
    fp32: bool = False
    gpu_id: tuple[int, ...] = ()
    workers: int = 1
    models_kept: int = 2
    queue: int = 8
    max_bytes: int = 250_000_000
    max_pixels: int = 25_000_000
    max_seconds: float = 60
    max_job_seconds: float = 3600
    max_upload_seconds: float = 300
    max_age: float = 3600

    def __post_init__(self) -> None:
        if not self.is_local and self.token is None and not self.no_auth:
            raise UsageError(f'--host {self.host} can be reached by others: set --token, or --no_auth if everybody may '
                             'use this service')
        if self.token == '':
            raise UsageError('--token is empty')

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address, in brackets or not, is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip('[]')).is_loopback
    except ValueError:
        return host.lower() == 'localhost'
