"""Rows that roll: the waits of a schedule suffice, and none is needless; memory; the same bits however rows roll."""
from __future__ import annotations

import dataclasses
import os
import random
import shutil
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest

from realesrgan.archs.architecture import Layers
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines.devices import CPU
from realesrgan.engines.kernel import self_test
from realesrgan.engines.kernel.library import SOURCES
from realesrgan.engines.rolling import TILE, RollingNetwork, Schedule
from realesrgan.engines.winograd import WinogradEngine

# ---- a simulation: threads take tickets in order, and stop anywhere between reading and writing ----


# The kinds of waits, by what is waited for.
OWN_JOB, INPUT, OVERWRITTEN, EARLIER = 'its own job before', 'what it reads', 'what it overwrites', 'earlier segments'


def kind(wait):
    if wait.more > 1:
        return EARLIER
    return INPUT if wait.columns or wait.down else OVERWRITTEN


@dataclasses.dataclass(frozen=True)
class Task:
    """A task, as `winograd.c` numbers it: its step, wave and number, and the tiles of its band that it computes."""

    step: int
    wave: int
    number: int
    top: int
    rows: int
    cells: tuple[tuple[int, int], ...]  # rows and columns of tiles

    @property
    def end(self):
        return self.top + self.rows


class Simulation:
    """Runs a schedule, and finds a task that reads something else than it should."""

    def __init__(self, schedule, task_tiles, band_rows, without):
        self.schedule, self.task_tiles, self.band_rows, self.without = schedule, task_tiles, band_rows, without
        self.tasks = [task for first, end, waves in schedule.segments for wave in range(waves)
                      for step in range(first, end) for task in self._cut(step, wave)]
        self.by_job = defaultdict(list)
        for task in self.tasks:
            self.by_job[task.step, task.wave].append(task)
        # What a step reads, as (plane, how often it has been written from top to bottom).
        versions, self.reads, self.writes = defaultdict(int), [], []
        for planned in schedule.steps:
            self.reads.append([(read, versions[read.plane]) for read in planned.step.reads])
            versions.update({plane: versions[plane] + 1 for plane in planned.step.writes})
            self.writes.append([(plane, versions[plane]) for plane in planned.step.writes])

    def _end(self, step, wave):
        planned = self.schedule.steps[step]
        return min(max(planned.advance * (wave + 1) - planned.lag, 0), self.schedule.tile_rows(planned.step.enlarged))

    def _columns(self, step):
        return -(-self.schedule.width * self.schedule.steps[step].step.enlarged // TILE)

    def _cut(self, step, wave):
        convolves, columns = self.schedule.steps[step].step.layer is not None, self._columns(step)
        run = self.schedule.run(self.schedule.steps[step].step)
        runs = -(-columns // run)
        number = 0
        for top in range(self._end(step, wave - 1), self._end(step, wave), self.band_rows):
            rows = min(self.band_rows, self._end(step, wave) - top)
            size = self.task_tiles if convolves else rows * runs
            for first in range(0, rows * runs, size):
                yield Task(step, wave, number, top, rows, tuple(
                    (top + index % rows, column) for index in range(first, min(first + size, rows * runs))
                    for column in range(index // rows * run, min((index // rows + 1) * run, columns))))
                number += 1

    def _seen(self, task, read):
        """Yield the tiles of a plane that a task reads."""
        rows = self.schedule.tile_rows(read.plane.enlarged)
        columns = -(-self.schedule.width * read.plane.enlarged // TILE)
        for row, column in task.cells:
            if not read.around:
                yield row, column
                continue
            low, high = ([(TILE * place + offset >> read.doubled) // TILE for place in (row, column)]
                         for offset in (-1, TILE))
            for y in range(max(low[0], 0), min(high[0], rows - 1) + 1):
                for x in range(max(low[1], 0), min(high[1], columns - 1) + 1):
                    yield y, x

    def _waits_for(self, task):
        """Yield the tasks that a task waits for, as `winograd.c` finds them."""
        planned = self.schedule.steps[task.step]
        everything = range(10 ** 9)
        if self.without != OWN_JOB:
            yield from self._find(task.step, self.by_job[task.step, task.wave][0].top, everything)
        inputs = [read for read in planned.step.inputs if read.around]
        seen = [column for read in inputs[:1] for _, column in self._seen(task, read)]
        for wait in planned.waits:
            if kind(wait) == self.without:
                continue
            rows = ((task.end - wait.behind) << wait.up >> wait.down) + wait.more if task.end > wait.behind else 0
            columns = range(min(seen), max(seen) + 1) if wait.columns and seen else everything
            yield from self._find(wait.step, rows, columns)

    def _find(self, step, rows, columns):
        rows = min(rows, self.schedule.tile_rows(self.schedule.steps[step].step.enlarged))
        if rows <= 0:
            return
        wave = next(wave for wave in range(10 ** 6) if self._end(step, wave) >= rows)
        for task in self.by_job[step, wave]:
            if task.top < rows and any(column in columns for _, column in task.cells):
                yield task

    def run(self, threads, rng):
        """Return whether a task read what was not there; raise AssertionError where all threads wait."""
        done, memory, wrong = set(), {}, False
        waiting, working, tasks = [], [], iter(self.tasks)
        while True:
            while len(waiting) + len(working) < threads and (task := next(tasks, None)) is not None:
                waiting.append(task)
            if wrong or not (waiting or working):
                return wrong
            able = [task for task in waiting if done.issuperset(self._waits_for(task))]
            assert able or working, 'all threads wait'
            task = rng.choice(able + working)
            own = {(plane, *cell) for plane, _ in self.writes[task.step] for cell in task.cells}
            # It has read once when it begins to write, and may still read when it has written everything else.
            for read, expected in self.reads[task.step]:
                kept = self.schedule.rows[read.plane] // TILE
                wrong |= any(memory.get((read.plane, row % kept, column)) != (expected, row)
                             for row, column in self._seen(task, read)
                             if task in able or (read.plane, row, column) not in own)
            for plane, version in self.writes[task.step]:
                for row, column in task.cells:
                    place = plane, row % (self.schedule.rows[plane] // TILE), column
                    memory[place] = (version, row) if task in working else None
            if task in able:
                waiting.remove(task)
                working.append(task)
            else:
                working.remove(task)
                done.add(task)


def take_away(schedule, without):
    """Take away what each step waits for because of V."""
    for number, planned in enumerate(schedule.steps):
        step, waits = planned.step, list(planned.waits)
        for wait, read in zip(planned.waits, step.reads, strict=False):
            if without == INPUT and read.plane.is_transformed:
                waits.remove(wait)
        for plane in step.writes:
            if without == OVERWRITTEN and plane.is_transformed:
                readers = {reader for reader, other in enumerate(schedule.steps)
                           if any(read.plane is plane for read in other.step.reads)}
                waits = [wait for wait in waits if kind(wait) != OVERWRITTEN or wait.step not in readers]
        schedule.steps[number] = planned._replace(waits=waits)


class SharingConfig(SRVGGNetCompactConfig):
    """Two convolutions of the same 64 channels, and nothing else for which the second would wait."""

    def layers(self):
        layers = Layers()
        head = layers.convolve('head', [0], 64)
        sides = [layers.convolve(f'side{number}', [head], 16) for number in range(2)]
        return layers.finish('tail', sides, shuffle=self.scale)


NETWORKS = (RRDBNetConfig(4, 16, 2, 8), RRDBNetConfig(2, 16, 1, 8), SRVGGNetCompactConfig(4, 16, 3))


def simulate(config, height, width, least_tiles, threads, seed, without=None, *, keeps=False):
    """Run a schedule; `without` names a kind of wait that is taken away, of those for V if the network keeps it."""
    network = RollingNetwork(config.layers(), keeps=keeps)
    schedule = Schedule(network, height, width, least_tiles, block=(2, 3, 6)[seed % 3])
    if keeps and without:
        take_away(schedule, without)
        without = None
    rng = random.Random(seed)
    return Simulation(schedule, rng.choice((2, 4, 9)), rng.choice((2, 4)), without).run(threads, rng)


@pytest.mark.parametrize('config', NETWORKS, ids=lambda config: f'{config.architecture}-x{config.scale}')
def test_no_task_reads_what_is_not_there_and_nobody_waits_forever(config):
    for seed in range(6):
        rng = random.Random(seed)
        assert simulate(config, rng.randint(1, 50), rng.randint(1, 30), rng.choice((1, 8, 30)),
                        rng.choice((1, 2, 3, 8, 40)), seed) is False


@pytest.mark.parametrize('config', [NETWORKS[0], SharingConfig()], ids=lambda config: config.architecture)
def test_no_task_reads_values_of_v_that_are_not_there(config):
    for seed in range(6):
        rng = random.Random(seed)
        assert simulate(config, rng.randint(1, 50), rng.randint(1, 30), rng.choice((1, 8, 30)),
                        rng.choice((1, 2, 3, 8, 40)), seed, keeps=True) is False


@pytest.mark.parametrize('without', [OWN_JOB, INPUT, OVERWRITTEN, EARLIER])
def test_no_wait_is_needless(without):
    assert any(simulate(NETWORKS[0], 60, 8, 1, 40, seed, without) for seed in range(8))


@pytest.mark.parametrize('without', [INPUT, OVERWRITTEN])
def test_no_wait_for_values_of_v_is_needless(without):
    assert any(simulate(SharingConfig(), 60, 8, 1, 40, seed, without, keeps=True) for seed in range(8))


# ---- memory ----

def count_mebibytes(schedule):
    return sum(plane.groups * schedule.size(plane) for plane in schedule.rows) * 4 >> 20


@pytest.mark.parametrize(('config', 'height', 'width', 'mebibytes'), [
    (RRDBNetConfig(), 256, 256, 103), (RRDBNetConfig(), 1024, 768, 404), (RRDBNetConfig(), 1920, 1080, 770),
    (RRDBNetConfig(), 4000, 3000, 3663), (SRVGGNetCompactConfig(), 640, 448, 113),
    (SRVGGNetCompactConfig(), 6000, 4000, 449)])
def test_memory_grows_with_the_shorter_side_and_with_one_plane(config, height, width, mebibytes):
    """Planes of all features would take 744 MiB for RealESRGAN_x4plus at 256x256, and 132 GiB at 4000x3000."""
    assert count_mebibytes(Schedule(RollingNetwork(config.layers()), height, width)) == mebibytes


@pytest.mark.parametrize(('height', 'width', 'mebibytes'), [(256, 256, 138), (1920, 1080, 815), (4000, 3000, 3784)])
def test_kept_v_takes_little_memory(height, width, mebibytes):
    network = RollingNetwork(RRDBNetConfig().layers(), keeps=True)
    assert count_mebibytes(Schedule(network, height, width, block=14, kept_floats=16720)) == mebibytes


# ---- results ----

def branch_back(layers):
    """A network with a branch of another size, and a result that nobody reads."""
    up = layers.convolve('up', [0], 4, doubles=True)
    layers.convolve('side', [0], 4)
    return layers.finish('tail', [up])


def skip_far(layers):
    """A feature that is read again after many others, and two that differ in channels."""
    head = layers.convolve('head', [0], 20, 0.2)
    now = layers.convolve('body', [head], 6)
    for number in range(6):
        now = layers.convolve(f'body{number}', [now, head], 6, 0.1, residuals=[(now, 0.5)])
    return layers.finish('tail', [now, head], shuffle=2)


def forget_one(layers):
    """Two segments, the first with a result that nobody reads, whose ring the second takes."""
    trunk = layers.convolve('head', [0], 8)
    for number in range(2):
        first = layers.convolve(f'first{number}', [trunk], 8, 0.1)
        second = layers.convolve(f'second{number}', [trunk, first], 8, 0.1)
        layers.convolve(f'dead{number}', [second], 8)
        trunk = layers.convolve(f'last{number}', [first, second], 8, residuals=[(trunk, 0.5)])
    return layers.finish('tail', [trunk], shuffle=2)


@pytest.mark.parametrize('describe', [branch_back, skip_far, forget_one])
def test_networks_of_any_form(best_kernel, monkeypatch, describe):
    config = SRVGGNetCompactConfig(2, 8, 1)
    layers = describe(Layers())
    monkeypatch.setattr(SRVGGNetCompactConfig, 'layers', lambda config: layers)
    weights = self_test.make_weights(layers, np.random.default_rng(0))
    for least_tiles in (1, 1000):
        engine = WinogradEngine(LoadedNetwork(config, weights), CPU, 'float32', 2, kernel=best_kernel,
                                least_tiles=least_tiles)
        for height, width in ((1, 1), (41, 18), (18, 41)):
            picture = np.random.default_rng(1).random((height, width, 3), np.float32)
            assert np.abs(engine(picture[None])[0] - self_test.compute(layers, weights, picture)).max() < 1e-5


@pytest.mark.parametrize('config', NETWORKS, ids=lambda config: f'{config.architecture}-x{config.scale}')
def test_the_same_bits_however_rows_roll(best_kernel, config):
    weights = self_test.make_weights(config.layers(), np.random.default_rng(0))

    def upscale(batch, least_tiles, threads):
        engine = WinogradEngine(LoadedNetwork(config, weights), CPU, 'float32', threads, kernel=best_kernel,
                                least_tiles=least_tiles)
        return engine(batch), engine(batch)
    for height, width in ((90, 50), (50, 90), (300, 6), (64, 64)):
        batch = np.random.default_rng(0).random((1, height, width, 3), np.float32)
        expected = upscale(batch, 10 ** 6, 1)[0]  # in one wave
        for least_tiles, threads in ((1, 1), (1, 3), (100, 2), (1024, 5)):
            for result in upscale(batch, least_tiles, threads):
                assert np.array_equal(result, expected)


@pytest.mark.parametrize('config', [RRDBNetConfig(4, 64, 1, 32), NETWORKS[0], SharingConfig()],
                         ids=('chunks-of-two-features', 'chunks-of-four', 'sharing'))
def test_the_same_bits_where_v_is_kept(best_kernel, monkeypatch, config):
    if not best_kernel.has_ints:
        pytest.skip('this processor has no int16')
    monkeypatch.setattr(SRVGGNetCompactConfig, 'layers', SharingConfig.layers)
    network = LoadedNetwork(config, self_test.make_weights(config.layers(), np.random.default_rng(0)))

    def make(threads, least_tiles=None):
        return WinogradEngine(network, CPU, 'int16', threads, kernel=best_kernel, least_tiles=least_tiles)
    without = make(1)
    without._keeps = False
    for height, width in ((61, 29), (57, 130)):
        batch = np.random.default_rng(0).random((1, height, width, 3), np.float32)
        expected = without(batch)
        for threads, least_tiles in ((1, None), (3, 1)):
            engine = make(threads, least_tiles)
            assert np.array_equal(engine(batch), expected)
            assert np.array_equal(engine(batch), expected)
            assert engine.count_bytes(height, width) > without.count_bytes(height, width) or least_tiles


RACE = """
import ctypes
import sys
from pathlib import Path
import numpy as np
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.engines.devices import CPU
from realesrgan.engines.kernel.library import Kernel
from realesrgan.engines.kernel.self_test import make_weights
from realesrgan.engines.winograd import WinogradEngine
config = RRDBNetConfig(4, 16, 1, 8)
network = LoadedNetwork(config, make_weights(config.layers(), np.random.default_rng(0)))
engine = WinogradEngine(network, CPU, 'float32', 3, kernel=Kernel(Path(sys.argv[1])), least_tiles=1)
for careless in 0, 1:
    ctypes.c_int.in_dll(ctypes.CDLL(sys.argv[1]), 'careless').value = careless
    print('careless' if careless else 'careful', flush=True)
    for _ in range(3):
        engine(np.zeros((1, 60, 30, 3), np.float32))
"""


@pytest.mark.skipif(sys.platform != 'linux' or not shutil.which('gcc'), reason='it takes the ThreadSanitizer of gcc')
def test_threads_do_not_race(tmp_path):
    """Without vectors, because the sanitizer does not see streaming stores; it notices it if nobody waits."""
    source, library = tmp_path / 'winograd.c', tmp_path / 'libwinograd-sanitized.so'
    code, waiting = SOURCES[0].read_text(), '    if (rows <= 0) return 1;\n'
    assert waiting in code
    source.write_text('int careless;\n' + code.replace(waiting, waiting.replace('rows <= 0', 'careless || rows <= 0')))
    built = subprocess.run(['gcc', '-std=gnu11', '-shared', '-fPIC', '-O1', '-fsanitize=thread', source, *SOURCES[1:],
                            '-o', library])
    runtime = subprocess.check_output(['gcc', '-print-file-name=libtsan.so'], text=True).strip()
    if built.returncode or not runtime.startswith('/'):
        pytest.skip('this gcc has no ThreadSanitizer')
    environment = os.environ | {'LD_PRELOAD': runtime, 'TSAN_OPTIONS': 'halt_on_error=1'}
    result = subprocess.run([sys.executable, '-c', RACE, library], env=environment, capture_output=True, text=True)
    if 'FATAL: ThreadSanitizer' in result.stderr:
        pytest.skip('the ThreadSanitizer does not run here')
    assert (result.stdout, 'data race' in result.stderr) == ('careful\ncareless\n', True), result.stderr
