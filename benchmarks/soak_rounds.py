"""The rounds of `soak.py`: run a command, kill what belongs to it, damage its parts, and compare its results."""
from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import soak_cases
from soak_cases import Case, Server

#: How the process may end after each signal: our own statuses, and Python's before our script has begun.
STATUSES = {signal.SIGKILL: (-9,), signal.SIGINT: (130, -2, 0), signal.SIGTERM: (143, -15, 0)}
RERUNS = 4
_PATIENCE_SECONDS = 20  # for processes whose parent was killed
_POLL_SECONDS = 0.004
_ENDLESS_SECONDS = 300


@dataclass(frozen=True)
class Strike:
    """A kill: of whom, by what, and when.

    Attributes:
        victim: 'main', 'worker' or 'ffmpeg'.
        number: The signal.
        moment: A share of the time that the undisturbed run took, or 'parts' (when some are finished), 'joining' or
            'downloading'.
        share: 0..1; which one of several victims, and how many parts are finished, or how much is downloaded, by then.
    """

    victim: str
    number: signal.Signals
    moment: float | str
    share: float

    @classmethod
    def draw(cls, draw: random.Random, case: Case) -> Strike:
        """Draw one that the case has a victim for."""
        victims = ['main', 'main', 'ffmpeg', *['worker'] * (case.workers > 1)] if case.kind == 'clips' else ['main']
        moment: float | str = draw.uniform(0.05, 0.95)
        if case.kind == 'clips' and draw.random() < 0.6:
            moment = draw.choice(('parts', 'parts', 'joining') if case.has_parts else ('joining',))
            victims = ['main', 'ffmpeg'] if moment == 'joining' else victims
        if case.fetched and draw.random() < 0.6:
            moment, victims = 'downloading', ['main']
        return cls(draw.choice(victims), draw.choice(list(STATUSES)), moment, draw.random())


@dataclass
class Tally:
    """The events of a round, and its losses."""

    counts: Counter[str] = field(default_factory=Counter)
    kills: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    def list_rows(self) -> list[dict[str, Any]]:
        """Return the rows of a table: all counts, in the order in which they are interesting."""
        names = ('rounds', 'pictures', 'clips', 'runs', 'kills', 'kills that came too late', 'damaged parts',
                 'downloads cut', 'reruns', 'resumes', 'parts reused')
        losses = ('mismatches', 'leftovers', 'tracebacks', 'strange ends', 'lost parts', 'failures of the library')
        return [*({'what': name, 'count': self.counts[name]} for name in names),
                *({'what': name, 'count': self.lost[name]} for name in losses)]


class Round:
    """One round, in a folder of its own.

    Args:
        number: Of the round; `seed` and it decide what is drawn.
        args: Of the command line.
        server: Serves weights.
        tally: Is added to.
        known: Hashes and seconds of undisturbed runs, by inputs and options; is added to.
    """

    def __init__(self, number: int, args: argparse.Namespace, server: Server, tally: Tally, engines: list[str],
                 known: dict[Any, tuple[dict[str, str], float]]) -> None:
        self._draw = draw = random.Random(args.seed + number)
        self._case = case = soak_cases.draw_case(draw, args.folder / 'inputs', engines)
        self._strikes = [Strike.draw(draw, case) for _ in range(draw.randint(1, args.kills))]
        self._damages = [draw.choice((0, args.damage)) for _ in self._strikes]
        self._cuts = [int(draw.random() * server.size) for _ in self._strikes if draw.random() < 0.3]
        self._args, self._server, self._tally, self._known = args, server, tally, known
        self._name = f'--seed {args.seed} --round {number}'
        self._url = server.url(number)
        self._folder = args.folder / f'round {number}'
        self._out = self._folder / 'out'

    def run(self) -> None:
        """Run it; its folder stays if anything was lost."""
        before = self._tally.lost.total()
        case = self._case
        shutil.rmtree(self._folder, ignore_errors=True)  # it may be a round that is repeated
        (self._folder / 'tmp').mkdir(parents=True)
        case.put_inputs(self._folder / 'in')
        self._server.cuts[:] = self._cuts
        key = case.kind, case.inputs, case.options
        if key not in self._known:
            self._known[key] = self._run_undisturbed()
        expected, seconds = self._known[key]
        self._disturb(seconds)
        self._compare(expected)
        self._tally.counts['rounds'] += 1
        self._tally.counts[case.kind] += len(case.inputs)
        if self._tally.lost.total() == before:
            shutil.rmtree(self._folder)

    def _lose(self, what: str, detail: str) -> None:
        self._tally.lost[what] += 1
        print(f'{what}: {detail}\n  {self._folder}; again: python benchmarks/soak.py {self._name}', flush=True)

    # ---- runs ----

    def _run_undisturbed(self) -> tuple[dict[str, str], float]:
        out, start = self._folder / 'undisturbed', time.perf_counter()
        status, _ = self._run(out, str(soak_cases.WEIGHTS), None)
        if status != 0:
            self._lose('strange ends', f'undisturbed, with {status}')
        return soak_cases.hash_results(out), time.perf_counter() - start

    def _disturb(self, seconds: float) -> None:
        """Run the command with each strike, and then until it succeeds."""
        for strike, damage in zip(self._strikes, self._damages, strict=True):
            status, struck = self._run(self._out, self._url, strike, seconds)
            allowed = (STATUSES[strike.number] if strike.victim == 'main' else (0, 1)) if struck else (0,)
            if status not in allowed:
                self._lose('strange ends', f'{strike}, with {status}')
            if status == 0:
                return
            self._damage_parts(damage)
            self._tally.counts['reruns'] += 1
        for attempt in range(RERUNS):
            self._tally.counts['reruns'] += attempt > 0
            status, _ = self._run(self._out, self._url, None)
            if status == 0:
                return
            self._lose('strange ends', f'a rerun, with {status}')

    def _run(self, out: Path, weights: str, strike: Strike | None, seconds: float = 0) -> tuple[int, bool]:
        """Run the command once; return its status and whether it was struck."""
        self._tally.counts['runs'] += 1
        command = self._case.build_command(sys.executable, self._folder / 'in', out, weights)
        environment = os.environ | {'TMPDIR': str(self._folder / 'tmp'), 'NO_PROXY': '127.0.0.1'}
        intact = self._count_intact_parts()
        log_path = self._folder / f'{self._tally.counts["runs"]}.log'
        with log_path.open('wb') as log:
            log.write(f'{command} {strike}\n'.encode())
            log.flush()
            process = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                   cwd=self._folder)
            doing = self._strike(process, strike, seconds) if strike else ''
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(_ENDLESS_SECONDS)
            if process.is_running():
                process.kill()
        status = process.wait()
        self._check_run(status, log_path.read_text(errors='replace'), intact)
        return status, bool(doing)

    def _check_run(self, status: int, text: str, intact: int) -> None:
        """Check that a run left no process and no traceback, and took the parts that were there."""
        _, alive = psutil.wait_procs(self._list_processes(), _PATIENCE_SECONDS)
        for process in alive:
            self._lose('leftovers', f'a process: {process}')
            process.kill()
        if 'Traceback' in text and status != -signal.SIGINT:  # Python's own, before our script has begun
            self._lose('tracebacks', text[text.index('Traceback'):])
        reused = [int(count) for count in re.findall(r'reusing (\d+) part', text)]
        self._tally.counts['resumes'] += bool(reused)
        self._tally.counts['parts reused'] += sum(reused)
        if status == 0 and sum(reused) != intact:
            self._lose('lost parts', f'{sum(reused)} of {intact} parts were reused')

    def _list_processes(self) -> list[psutil.Process]:
        """Return the processes of this round, which are known by their TMPDIR, whoever their parent is now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get('TMPDIR') == str(self._folder / 'tmp'):
                    found.append(process)
        return found

    # ---- disturbances ----

    def _strike(self, process: psutil.Process, strike: Strike, seconds: float) -> str:
        """Kill a victim at its moment; return what was going on, or '' if the process ended before."""
        start = time.perf_counter()
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            doing = self._tell_doing()
            match strike.moment:
                case 'parts':
                    due = len(self._list_whole_parts()) > 3 * strike.share
                case 'downloading':
                    due = self._server.sent > 0.9 * strike.share * self._server.size
                case 'joining':
                    due = doing == 'joining'
                case share:
                    due = time.perf_counter() - start >= share * seconds
            if due and self._hit(process, strike):
                self._tally.counts['kills'] += 1
                self._tally.kills[strike.number.name, strike.victim, doing] += 1
                self._tally.counts['downloads cut'] += doing == 'downloading'
                return doing
            time.sleep(_POLL_SECONDS)
        self._tally.counts['kills that came too late'] += 1
        return ''

    def _hit(self, process: psutil.Process, strike: Strike) -> bool:
        """Send the signal to a victim; it is stopped first, so that it is known to have been alive."""
        with contextlib.suppress(psutil.NoSuchProcess):
            victims = list(list_victims(process, strike.victim))
            if victims:
                victim = victims[int(strike.share * len(victims))]
                victim.suspend()
                while victim.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                    time.sleep(_POLL_SECONDS)
                if victim.status() == psutil.STATUS_STOPPED:
                    victim.send_signal(strike.number)
                    with contextlib.suppress(psutil.NoSuchProcess):  # SIGKILL needs no resuming
                        victim.resume()
                    return True
        return False

    def _tell_doing(self) -> str:
        if self._server.sent:
            return 'downloading'
        if any(self._out.glob('*_parts/.realesrgan-*/whole*')):
            return 'joining'
        return 'computing' if self._out.exists() else 'starting'

    def _list_whole_parts(self) -> list[tuple[Path, dict[str, Any]]]:
        """Return the parts that are finished, as far as their size tells, with their notes."""
        found = []
        for part in sorted(self._out.glob('*_parts/????????.*')):
            note = part.with_suffix('.json')
            with contextlib.suppress(FileNotFoundError):  # the program removes them in the end
                content = json.loads(note.read_bytes())
                found += [(part, content)] * (part != note and part.stat().st_size == content['bytes'])
        return found

    def _count_intact_parts(self) -> int:
        return sum(hashlib.sha256(part.read_bytes()).hexdigest() == note['sha256']
                   for part, note in self._list_whole_parts())

    def _damage_parts(self, count: int) -> None:
        """Cut parts, or put zeros or noise into their middle."""
        parts = self._list_whole_parts()
        for part, _ in self._draw.sample(parts, min(count, len(parts))):
            data = part.read_bytes()
            third = len(data) // 3
            middle = self._draw.choice((bytes(third), self._draw.randbytes(third), b''))
            part.write_bytes(data[:third] + middle + (data[2 * third:] if middle else b''))
            self._tally.counts['damaged parts'] += 1

    # ---- results ----

    def _compare(self, expected: dict[str, str]) -> None:
        """Check that the results are those of the undisturbed run, and that nothing is beside them."""
        found = soak_cases.hash_results(self._out)
        for name in expected:
            if found.get(name) != expected[name]:
                self._lose('mismatches', f'{name} is {found.get(name)}, not {expected[name]}')
        left = [name for name in found if name not in expected]
        left += [path.name for path in (self._folder / 'tmp').iterdir()]
        left += soak_cases.take_fetched(self._url)
        for name in left:
            self._lose('leftovers', name)


def list_victims(process: psutil.Process, victim: str) -> Iterator[psutil.Process]:
    """Yield the processes that a strike may hit."""
    if victim == 'main':
        yield process
        return
    sign = 'spawn_main' if victim == 'worker' else soak_cases.FFMPEG.ffmpeg
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if sign in ' '.join(child.cmdline()):
                yield child
