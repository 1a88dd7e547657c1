"""Serve Real-ESRGAN to browsers and programs."""
from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence

from ..cli.parser import add_options, add_verbosity_options, read_options
from ..cli.run import run
from ..errors import RealESRGANError
from .settings import Settings

logger = logging.getLogger('realesrgan.web')  # which is __main__ otherwise

_SECONDS_BETWEEN_WAKINGS = 1.0  # on Windows an interrupt waits for the end of a sleep


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the service's options."""
    parser = argparse.ArgumentParser(prog='python -m realesrgan.web', description=__doc__, allow_abbrev=False)
    add_options(parser, Settings, {})
    add_verbosity_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until it is interrupted; return the exit status: 130 after Ctrl-C, 143 after SIGTERM."""
    return run(serve, build_parser(), argv)


def serve(args: argparse.Namespace) -> int:
    """Serve as the arguments say, until an interrupt is raised."""
    settings = read_options(Settings, args)
    try:
        from .server import open_folder, run_service
    except ModuleNotFoundError as error:
        if (error.name or '').split('.')[0] not in ('flask', 'waitress', 'prometheus_client', 'werkzeug'):
            raise
        raise RealESRGANError(f'the service needs {error.name}: pip install flask waitress prometheus_client') from None
    with open_folder(settings.folder) as folder, run_service(settings, folder) as (port, _):
        logger.info('http://%s:%s/', f'[{settings.host}]' if ':' in settings.host else settings.host, port)
        while True:
            time.sleep(_SECONDS_BETWEEN_WAKINGS)


if __name__ == '__main__':
    sys.exit(main())
