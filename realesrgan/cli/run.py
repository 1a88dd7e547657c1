"""How a script runs: logging, signals, errors in one line, exit statuses."""
from __future__ import annotations

import argparse
import atexit
import contextlib
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from ..errors import NoSuchDeviceError, UsageError, explain, flatten_message
from ..log import append_log, escape, prefix_subject

logger = logging.getLogger(__name__)

#: The logger of lines that are printed anyway, for `--log`.
PRINTED = f'{__name__}.printed'
#: Erases what stands right of the cursor in a terminal, such as the ^C that it has echoed behind a bar.
ERASE = '\x1b[K' if os.name == 'posix' else ''
_SHOWS_TRACEBACK = 'shows_traceback'  # an attribute of records


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
    args.command = f'{name_program(parser)} {shlex.join(sys.argv[1:] if argv is None else argv)}'
    configure_logging(verbose=args.verbose, quiet=args.quiet)
    before = None
    with contextlib.suppress(ValueError):  # not in the main thread, as under a web server, which handles signals itself
        before = signal.signal(signal.SIGTERM, _terminate)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(append_log(getattr(args, 'log', None)))
            return work(args)
        except KeyboardInterrupt:
            logger.error('interrupted')
            return 130
        except _Terminated:
            logger.error('ended by SIGTERM')
            raise
        except Exception as error:
            log_error(explain(error), traceback=args.verbose)
            if isinstance(error, NoSuchDeviceError) and not args.quiet:
                from ..engines.choice import describe_devices
                print(describe_devices(), file=sys.stderr)
            return 2 if isinstance(error, UsageError) else 1
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)


def name_program(parser: argparse.ArgumentParser) -> str:
    """Return how a shell starts the program of a parser."""
    return f'python {parser.prog}' if parser.prog.endswith('.py') else parser.prog


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """Run a script's `main`, and end the process with its status.

    Modules, memory and libraries are not torn down first, which would take a tenth of a start: the system takes them
    back all the same. Threads and exit handlers are waited for, as Python does it.
    """
    # What numpy multiplies here is small. More threads of its library would wait busily, beside those that compute.
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
    status = main()
    threading._shutdown()  # type: ignore[attr-defined]  # as `multiprocessing` ends its processes
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except OSError:
        sys.exit(status)  # which tells that the output can't be written
    os._exit(status)


def log_error(error: BaseException, *, traceback: bool) -> None:
    """Log an error in one line, with its traceback, which stderr shows if asked to."""
    logger.error('%s', _describe(error), exc_info=error, extra={_SHOWS_TRACEBACK: traceback})


def configure_logging(*, verbose: bool, quiet: bool) -> None:
    """Send the package's log to stderr: warnings and news, with `verbose` details too, with `quiet` only errors."""
    root = logging.getLogger('realesrgan')
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
    root.handlers = [_StderrHandler(level)]  # which shows no more where --log asks for all
    root.propagate = False
    root.setLevel(level)


class _StderrHandler(logging.Handler):
    """Writes log lines to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == PRINTED:
            return
        level = f'{record.levelname.lower()}: ' if record.levelno >= logging.WARNING else ''
        message = record.getMessage()
        traceback = self.format(record).removeprefix(message) if getattr(record, _SHOWS_TRACEBACK, True) else ''
        with contextlib.suppress(OSError):  # a full disk, or a reader that has gone, must not end the run
            write_line(level + escape(prefix_subject(record, message)) + traceback, sys.stderr)


def write_line(line: str, to: TextIO) -> None:
    """Write a line, above the progress bars if there are any.

    Raises:
        OSError: it can't be written.
    """
    if 'tqdm' in sys.modules:  # or no bar was made
        from tqdm import tqdm
        tqdm.write((ERASE if to.isatty() else '') + line, file=to)
    else:
        to.write(f'{line}\n')


def _terminate(signal_number: int, _frame: object) -> None:
    raise _Terminated(128 + signal_number)


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    return flatten_message(error)
