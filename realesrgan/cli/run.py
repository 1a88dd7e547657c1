"""How a script runs: logging, signals, errors in one line, exit statuses."""
from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from ..errors import NoSuchDeviceError, UsageError, explain, flatten_message
from ..log import escape, prefix_subject

logger = logging.getLogger(__name__)


class _Terminated(SystemExit):
    """SIGTERM has come."""


def run(work: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse arguments, do the work and return the exit status.

    The status is what `work` returns; 1 after an error, 2 after a usage error, 130 after Ctrl-C. An error becomes one
    line on stderr; -v adds its traceback. SIGTERM ends the run as cleanly as Ctrl-C does, with
    status 143.
    """
    for stream in ('stdout', 'stderr'):
        if getattr(sys, stream) is None:  # whoever started us has closed it
            setattr(sys, stream, open(os.devnull, 'w'))  # noqa: SIM115, PTH123
        elif hasattr(getattr(sys, stream), 'reconfigure'):  # names of files need not be text of the terminal's
            getattr(sys, stream).reconfigure(errors='backslashreplace')
    args = parser.parse_args(argv)
    configure_logging(verbose=args.verbose, quiet=args.quiet)
    before = None
    with contextlib.suppress(ValueError):  # not in the main thread, as under a web server, which handles signals itself
        before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return work(args)
    except KeyboardInterrupt:
        logger.error('interrupted')
        return 130
    except _Terminated:
        logger.error('ended by SIGTERM')
        raise
    except Exception as error:
        if isinstance(error, ImportError) and 'libGL' in str(error):
            logger.error('OpenCV can\'t be loaded: %s. Install it (Debian: apt-get install libgl1), or take the OpenCV '
                         'that needs none: pip uninstall opencv-python; pip install opencv-python-headless', error)
            return 1
        log_error(explain(error), traceback=args.verbose)
        if isinstance(error, NoSuchDeviceError) and not args.quiet:
            from ..engines.choice import describe_devices
            print(describe_devices(), file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def log_error(error: BaseException, *, traceback: bool) -> None:
    """Log an error in one line, and its traceback if asked to."""
    logger.error('%s', _describe(error), exc_info=error if traceback else None)


def configure_logging(*, verbose: bool, quiet: bool) -> None:
    """Send the package's log to stderr: warnings and news, with `verbose` details too, with `quiet` only errors."""
    root = logging.getLogger('realesrgan')
    root.handlers = [_StderrHandler()]
    root.propagate = False
    root.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO)


class _StderrHandler(logging.Handler):
    """Writes log lines to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm
        level = f'{record.levelname.lower()}: ' if record.levelno >= logging.WARNING else ''
        message = record.getMessage()
        traceback = self.format(record).removeprefix(message)
        with contextlib.suppress(OSError):  # a full disk, or a reader that has gone, must not end the run
            tqdm.write(level + escape(prefix_subject(record, message)) + traceback, file=sys.stderr)


def _terminate(signal_number: int, _frame: object) -> None:
    raise _Terminated(128 + signal_number)


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    return flatten_message(error)
