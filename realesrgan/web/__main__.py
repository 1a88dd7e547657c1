"""Serve Real-ESRGAN to browsers and programs."""
from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..cli.parser import add_options, add_verbosity_options, make_type
from ..cli.run import run
from ..errors import RealESRGANError
from ..options import RunOptions, check_number, check_path
from .settings import Settings
from .storage import choose_folder, open_storage

logger = logging.getLogger('realesrgan.web')  # which is __main__ otherwise

_SECONDS_BETWEEN_WAKINGS = 1.0  # on Windows an interrupt waits for the end of a sleep


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the service's options."""
    parser = argparse.ArgumentParser(prog='python -m realesrgan.web', description=__doc__, allow_abbrev=False)
    whole, number = make_type(check_number(int, 1)), make_type(check_number(float, 0.001))
    defaults = Settings(Path())
    group = parser.add_argument_group('address')
    group.add_argument('--host', default=defaults.host, help='where to listen (default: %(default)s)')
    group.add_argument('--port', type=make_type(check_number(int, 0, 65535)), default=defaults.port,
                       help='0 for any that is free (default: %(default)s)')
    group.add_argument('--token', metavar='TEXT', help='what clients must show; needed for a --host that others reach')
    group.add_argument('--no_auth', action='store_true', help='let everybody in who reaches --host')
    group.add_argument('--allow_host', nargs='+', default=[], metavar='NAME',
                       help='names under which a proxy may call a local service')
    group = parser.add_argument_group('limits')
    for name, kind, unit, text in (
            ('max_bytes', whole, 'COUNT', 'size of an upload'), ('max_pixels', whole, 'COUNT', 'of a picture or frame'),
            ('max_seconds', number, 'SECONDS', 'length of a video'),
            ('max_job_seconds', number, 'SECONDS', 'how long a job may run'),
            ('max_upload_seconds', number, 'SECONDS', 'how long an upload may take'),
            ('max_age', number, 'SECONDS', 'how long results are kept'),
            ('queue', whole, 'COUNT', 'how many jobs may wait'),
            ('workers', whole, 'COUNT', 'how many jobs run at once'),
            ('models_kept', whole, 'COUNT', 'models that each worker keeps loaded')):
        group.add_argument(f'--{name}', type=kind, default=getattr(defaults, name), metavar=unit,
                           help=f'{text} (default: %(default)s)')
    add_options(parser, RunOptions, 'device')
    parser.add_argument('--folder', type=make_type(check_path),
                        help='for everything temporary (default: the system\'s)')
    add_verbosity_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until it is interrupted; return the exit status: 130 after Ctrl-C, 143 after SIGTERM."""
    return run(serve, build_parser(), argv)


def serve(args: argparse.Namespace) -> int:
    """Serve as the arguments say, until an interrupt is raised."""
    try:
        from .app import create_app
        from .jobs import JobQueue
        from .metrics import Metrics
        from .server import Server
    except ModuleNotFoundError as error:
        if (error.name or '').split('.')[0] not in ('flask', 'waitress', 'prometheus_client', 'werkzeug'):
            raise
        raise RealESRGANError(f'the service needs {error.name}: pip install \'realesrgan[web]\', or flask waitress '
                              'prometheus_client') from None
    names = {field.name for field in dataclasses.fields(Settings)} & set(vars(args))
    given = {name: getattr(args, name) for name in names} | {'folder': Path()}
    settings = Settings(**given, allowed_hosts=tuple(args.allow_host))
    with open_storage(Path(args.folder) if args.folder else choose_folder()) as folder:
        settings = dataclasses.replace(settings, folder=folder)
        metrics = Metrics()
        queue = JobQueue(settings, metrics.count_job)
        metrics.watch(queue)
        with Server(create_app(settings, queue, metrics), settings) as server, queue:
            host = f'[{settings.host}]' if ':' in settings.host else settings.host
            logger.info('http://%s:%s/', host, server.port)
            while True:
                time.sleep(_SECONDS_BETWEEN_WAKINGS)


if __name__ == '__main__':
    sys.exit(main())
