"""Show the events of a run on a terminal: bars while it works, a line for each file, the totals at the end."""
from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from ..events import Event, Found, Outcome, Outlined, Progress
from ..log import about, escape
from .run import ERASE, PRINTED, log_error, write_line

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger(__name__)
_printed = logging.getLogger(PRINTED)

_SECONDS_BETWEEN_BEATS = 0.5
_ROOM_FOR_CTRL_C = 3  # columns right of a bar: where the terminal echoes ^C, it must not begin another line
_COLUMNS_FOR_RATE = 60
_FIRST_SHARE = 0.1  # of a picture
_SMOOTHING = 0.05  # of the rates that remaining times are guessed from: over ten seconds or so


class Display:
    """Takes the events of a run; a context manager that removes its bars in the end.

    Args:
        unit: What the rates count: 'megapixels' for pictures, 'frames' for videos.
        quiet: Show errors only.
        verbose: Show the tracebacks of errors.
        to: Where lines and totals go.
    """

    def __init__(self, unit: str, *, quiet: bool, verbose: bool, to: TextIO) -> None:
        self._unit = unit
        self._quiet = quiet
        self._verbose = verbose
        self._to = to
        self._start = time.perf_counter()
        self._outcomes: list[Outcome] = []
        self._found = 0
        self._in_work: dict[str, Progress] = {}
        self._done = 0  # of those found
        self._outlined = False
        self._unwritten = False
        self._files: tqdm[Any] | None = None
        self._frames: tqdm[Any] | None = None
        self._shown = ''  # the video whose frames are shown
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._keep_moving, daemon=True)

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._ended.set()
        if self._heart.is_alive():
            self._heart.join()
        with contextlib.suppress(OSError):  # the terminal has gone
            for bar in filter(None, (self._frames, self._files)):  # the lower one first
                bar.close()
                sys.stderr.write(f'\r{ERASE}')
        if error is not None and self._outcomes:  # the totals so far, before the error is shown
            self.summarise()
        done = sum(not outcome.failed and not outcome.skipped for outcome in self._outcomes)
        is_ended_early = error is not None and self._found > max(done, 1) and not self._outlined
        if is_ended_early and (done or not isinstance(error, Exception)):  # an error may have come before all work
            with about(''):
                logger.warning('%d of %d done; the same command with --skip_existing resumes', done, self._found)

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Found):
            self._found, self._done = event.count, 0
        elif isinstance(event, Progress):
            self._in_work[event.source] = event
        elif isinstance(event, Outcome):
            self._finish_file(event)
        elif isinstance(event, Outlined):
            self._outlined = True
            self._done += 1
            for line in event.lines:
                self._write(line)

    def summarise(self) -> int:
        """Print the totals and return the exit status: 1 if a file failed or the totals could not be written."""
        failed = sum(outcome.failed for outcome in self._outcomes)
        skipped = sum(outcome.skipped for outcome in self._outcomes)
        parts = [f'{len(self._outcomes) - failed - skipped} done', f'{failed} failed']
        if skipped:
            parts.append(f'{skipped} skipped')
        words = Counter(outcome.verdict.word for outcome in self._outcomes if outcome.verdict is not None)
        parts += [f'{words[word]} {word}' for word in ('look', 'bad') if words[word]]
        seconds = time.perf_counter() - self._start
        amount = sum(outcome.megapixels if self._unit == 'megapixels' else outcome.frames - outcome.reused
                     for outcome in self._outcomes)
        if not self._quiet and not self._outlined:
            rate = f', {amount / max(seconds, 1e-9):.3g} {self._unit}/s' if amount else ''
            self._write(f'{", ".join(parts)}, {seconds:.1f} s{rate}')
        return int(failed > 0 or self._unwritten)

    # ---- bars ----

    def _keep_moving(self) -> None:
        """Draw the bars twice a second, also while a single picture or frame takes long.

        No other thread makes bars: tqdm takes a twentieth of the time of a small picture to import.
        """
        with contextlib.suppress(OSError):  # the terminal has gone
            while not self._ended.wait(_SECONDS_BETWEEN_BEATS):
                work = list(self._in_work.values())
                if self._found > (self._unit == 'frames'):  # of a single video the frames are enough
                    self._draw_files(sum(event.done / event.total for event in work if event.total))
                if self._unit == 'frames':
                    self._draw_frames(work[0] if work else None)  # those of the first of several videos

    def _draw_files(self, share: float) -> None:
        """Draw how many files are done, with the share of those in work that is."""
        if self._files is None:
            self._files = self._make_bar(self._found, 'file')
            self._files.start_t -= time.perf_counter() - self._start
        counts = f'{self._done}/{self._found} ' if self._found > 1 else ''
        self._draw(self._files, self._done + share, counts)

    def _draw_frames(self, event: Progress | None) -> None:
        source = '' if event is None else event.source
        if self._frames is not None and source != self._shown:
            self._frames.close()
            self._frames = None
        self._shown = source
        if event is None:
            return
        if self._frames is None:
            # An earlier run's frames count for nothing in the rate.
            self._frames = self._make_bar(event.total, 'frame', event.reused)
        self._draw(self._frames, event.done, '{n_fmt}/{total_fmt} ')

    def _make_bar(self, total: int | None, unit: str, initial: int = 0) -> tqdm[Any]:
        from tqdm import tqdm
        return tqdm(total=total, initial=initial, unit=unit, leave=False, miniters=0, smoothing=_SMOOTHING,
                    position=int(self._files is not None), delay=1e-9)  # which shows nothing before it is drawn

    @staticmethod
    def _draw(bar: tqdm[Any], done: float, counts: str) -> None:
        """Draw a bar as wide as the terminal is now."""
        bar.ncols = max(os.get_terminal_size(sys.stderr.fileno()).columns - _ROOM_FOR_CTRL_C, 1)
        rate = ', {rate_fmt}' if bar.unit == 'frame' and bar.ncols >= _COLUMNS_FOR_RATE else ''
        if bar.total:  # or tqdm's own form has no bar
            bar.bar_format = f'{{percentage:3.0f}}%|{{bar}}| {counts}[{{elapsed}}<{{remaining}}{rate}]'
        if not bar.n and done < _FIRST_SHARE:
            # What came before, such as loading the network, counts for nothing in the rate.
            bar.n = bar.initial = bar.last_print_n = done
            bar.last_print_t = time.time()
        if done == bar.n:
            bar.refresh()
        else:  # not by nothing, or the next step would count as one of half a second
            bar.update(done - bar.n)

    def _finish_file(self, outcome: Outcome) -> None:
        self._in_work.pop(outcome.source, None)
        self._outcomes.append(outcome)
        self._done += 1
        with about(outcome.source):
            if outcome.error is not None:
                log_error(outcome.error, traceback=self._verbose)
            elif outcome.skipped:
                logger.info('skipped: %s exists', outcome.target)
            elif outcome.megapixels:  # a picture
                verdict = '' if outcome.verdict is None else f': {outcome.verdict}'
                logger.info('%s -> %s%s', outcome.source, outcome.target or 'stdout', verdict)
            if outcome.flicker is not None:
                logger.log(logging.DEBUG if outcome.flicker.steadied is None else logging.INFO, '%s', outcome.flicker)
            for problem in outcome.problems:
                logger.error('%s', problem)
        if outcome.frames and not outcome.megapixels and not self._quiet:
            self._print_video(outcome)

    def _print_video(self, outcome: Outcome) -> None:
        reused = f' ({outcome.reused} of them from an earlier run)' if outcome.reused else ''
        rate = (outcome.frames - outcome.reused) / max(outcome.seconds, 1e-9)
        verdict = '' if outcome.verdict is None else f', {outcome.verdict}'
        self._write(f'{outcome.target}: {outcome.frames} frames{reused}, {rate:.3g} frames/s, {outcome.seconds:.1f} s'
                    f'{verdict}')

    def _write(self, line: str) -> None:
        """Write a line above the bars. If that fails the run goes on, and ends with status 1."""
        _printed.info('%s', line)
        try:
            write_line(escape(line), self._to)
            self._to.flush()
        except OSError as error:
            if not self._unwritten:
                with about(''):
                    logger.error('stdout can\'t be written: %s', error.strerror)
            self._unwritten = True
