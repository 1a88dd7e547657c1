"""Workers for the tests of pools, importable in other processes."""
from __future__ import annotations

import logging
import os
import signal
import time

from realesrgan.errors import RealESRGANError
from realesrgan.log import about


class OddError(RealESRGANError):
    """An error that can't be unpickled: its class takes more than a message."""

    def __init__(self, first, second):
        super().__init__(f'{first} and {second}')


class Doubler:
    """Doubles numbers, reports them and logs a warning."""

    def __init__(self, place):
        self.place = place

    def __call__(self, number, report):
        report(('doubling', number))
        with about('a number'):
            logging.getLogger('realesrgan.test').warning('%d is doubled on %s', number, self.place)
        return number * 2


class Talker:
    """Logs the same as all others while it is built, and then something of its own."""

    def __init__(self, place):
        logging.getLogger('realesrgan.test').warning('built')

    def __call__(self, number, report):
        time.sleep(0.2)
        logging.getLogger('realesrgan.test').warning('at work')


class Whereabouts:
    """Takes a moment, and returns where it ran: place and process."""

    def __init__(self, place):
        self.place = place

    def __call__(self, seconds, report):
        report('started')
        time.sleep(seconds)
        return self.place, os.getpid()


class Raiser:
    """Raises its tasks that are errors, returns the others."""

    def __init__(self, place):
        self.place = place

    def __call__(self, task, report):
        if isinstance(task, BaseException):
            raise task
        if task == 'odd':
            raise OddError('this', 'that')
        return task


class RaisingWhereabouts(Whereabouts):
    """Raises its tasks that are errors; else as `Whereabouts`."""

    def __call__(self, task, report):
        if isinstance(task, BaseException):
            raise task
        return super().__call__(task, report)


class Mortal:
    """Dies, as a killed process does, as often as a file in the task's folder says; logs where it worked."""

    def __init__(self, place):
        self.place = place

    def __call__(self, folder, report):
        with (folder / 'log').open('a') as file:
            file.write(f'{self.place.gpu_id}\n')
        attempts = len((folder / 'log').read_text().split())
        if attempts <= int((folder / 'deaths').read_text()):
            os.kill(os.getpid(), signal.SIGKILL)
        return attempts


class Breaking:
    """Raises an error as often as a file says, whoever it is, and then tells which of the workers it is."""

    def __init__(self, place):
        self.number = 0

    def __call__(self, task, report):
        folder, error = task
        self.number += 1
        built = folder / 'built'
        if self.number == 1:
            built.write_text(built.read_text() + 'x' if built.exists() else 'x')
        left = int((folder / 'failures').read_text())
        if left:
            (folder / 'failures').write_text(str(left - 1))
            raise error
        return f'done by the {["first", "second"][len(built.read_text()) - 1]}'


class Forgetful:
    """Runs out of memory at its first task of all; returns its process at the second."""

    def __init__(self, place):
        self.place = place

    def __call__(self, folder, report):
        log = folder / 'log'
        with log.open('a') as file:
            file.write(f'{os.getpid()}\n')
        if len(log.read_text().split()) == 1:
            raise MemoryError('frame 7: not enough')
        return os.getpid()


class Counter:
    """Counts its tasks, to tell whether a worker is built anew."""

    def __init__(self, place):
        self.tasks = 0

    def __call__(self, _, report):
        self.tasks += 1
        return os.getpid(), self.tasks


class Nested:
    """Returns an error inside a result, as the outcome of a picture has it."""

    def __init__(self, place):
        self.place = place

    def __call__(self, _, report):
        try:
            raise OddError('one', 'two')
        except OddError as error:
            report({'error': error})
            return [error, FileNotFoundError(2, 'no', 'x')]


class Meeting:
    """Waits until so many nodes have met in a folder, and on one that is doomed there for its end; returns the node."""

    def __init__(self, place):
        self.place = place

    def __call__(self, task, report):
        import ray
        report('waiting')
        folder, count = task
        node = ray.get_runtime_context().get_node_id()
        (folder / node).touch()
        deadline = time.monotonic() + 60
        while len(list(folder.iterdir())) < count or (folder / f'doomed {node}').exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.1)
        return node


class WhichNode:
    """Takes a moment, and returns the node that it is on."""

    def __init__(self, place):
        self.place = place

    def __call__(self, seconds, report):
        import ray
        time.sleep(seconds)
        return ray.get_runtime_context().get_node_id()


def build_badly(place):
    raise RuntimeError(f'no context on {place}')


def build_without_weights(place):
    raise RealESRGANError('no weights')
