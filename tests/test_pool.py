"""Workers: tasks in processes, what is done when one dies, and what its errors look like here."""
import logging
import multiprocessing.pool
import os
import signal
import time
import traceback

import psutil
import pytest

from realesrgan.errors import RealESRGANError, WorkerError
from realesrgan.workers.pool import Pool, ProcessPool, SerialPool, report

device = None


class OddError(RealESRGANError):
    def __init__(self, first, second):
        super().__init__(f'{first} and {second}')


def start(*arguments):
    global device
    device = arguments[-1]


def start_badly(device):
    raise RuntimeError(f'no context on {device}')


def double(number):
    report(('doubling', number))
    logging.getLogger('realesrgan.test').warning('%d is doubled on %s', number, device)
    return number * 2


def slowly(number):
    time.sleep(0.2)
    return number


def fail(error):
    raise error


def fail_oddly(_):
    raise OddError('this', 'that')


def die(folder):
    """End as a killed process does, the first times that a file in the folder says; note where."""
    with (folder / 'log').open('a') as file:
        file.write(f'{device}\n')
    attempts = len((folder / 'log').read_text().split())
    if attempts <= int((folder / 'deaths').read_text()):
        os.kill(os.getpid(), signal.SIGKILL)
    return attempts


def run_out_of_memory(folder):
    with (folder / 'log').open('a') as file:
        file.write(f'{device}\n')
    if len((folder / 'log').read_text().split()) == 1:
        raise MemoryError('frame 7: not enough')
    return os.getpid()


@pytest.fixture
def children():
    """Assert that no child process is left but the one that multiprocessing keeps."""
    yield
    left = [child for child in psutil.Process().children() if 'resource_tracker' not in ' '.join(child.cmdline())]
    assert left == []


@pytest.mark.parametrize('make', [
    lambda heard: SerialPool(start, ('x', 'here'), heard), lambda heard: ProcessPool(['a', 'b'], start, ('x',), heard)])
def test_results_reports_and_log_lines_arrive(make, children, caplog):
    heard = []
    with make(heard.append) as pool:
        assert sorted(pool.imap_unordered(double, range(7))) == [0, 2, 4, 6, 8, 10, 12]
    assert sorted(heard) == [('doubling', number) for number in range(7)]
    lines = sorted(record.getMessage().split(' on ')[0] for record in caplog.records)
    assert lines == [f'{number} is doubled' for number in range(7)]


def test_devices_are_used_as_they_are_given(children, caplog):
    with ProcessPool(['a', 'a', 'b'], start, ()) as pool:
        assert sorted(pool.imap_unordered(slowly, range(6))) == list(range(6))
        assert sorted(worker.device for worker in pool._workers) == ['a', 'a', 'b']
    with ProcessPool(['a', 'b'], start, ()) as pool:
        assert list(pool.imap_unordered(slowly, [1])) == [1]
        assert [worker.device for worker in pool._workers] == ['a']


@pytest.mark.parametrize(('devices', 'deaths', 'places'), [
    (['a', 'b'], 1, 'a a'), (['a', 'b'], 2, 'a a b'), (['a'], 1, 'a a')])
def test_a_worker_that_dies_is_replaced(children, tmp_path, caplog, devices, deaths, places):
    (tmp_path / 'deaths').write_text(str(deaths))
    with ProcessPool(devices, start, ()) as pool:
        assert list(pool.imap_unordered(die, [tmp_path])) == [deaths + 1]
    assert (tmp_path / 'log').read_text().split() == places.split()
    assert caplog.records[0].getMessage() == (
        'a worker on a was killed, as the system does when memory runs out; its work is tried again on a')
    assert len(caplog.records) == deaths


@pytest.mark.parametrize(('devices', 'last'), [(['a'], 'a'), (['a', 'b'], 'b')])
def test_after_that_the_run_ends(children, tmp_path, devices, last):
    (tmp_path / 'deaths').write_text('9')
    with ProcessPool(devices, start, ()) as pool, pytest.raises(WorkerError, match=f'^a worker on {last} was killed'):
        list(pool.imap_unordered(die, [tmp_path]))
    assert (tmp_path / 'log').read_text().split() == ['a', 'a', 'b'][:len(devices) + 1]


def test_a_lack_of_memory_gets_another_process(children, tmp_path, caplog):
    with ProcessPool(['a'], start, ()) as pool:
        [process] = pool.imap_unordered(run_out_of_memory, [tmp_path])
        assert [worker._process.pid for worker in pool._workers] == [process]
    assert caplog.records[0].getMessage() == 'a worker on a failed: frame 7: not enough; its work is tried again on a'


@pytest.mark.parametrize('error', [RealESRGANError('bad'), FileNotFoundError(2, 'no', 'x')])
def test_errors_of_a_task_are_raised_here(children, error):
    with ProcessPool(['a', 'b'], start, ()) as pool, pytest.raises(type(error)) as caught:
        list(pool.imap_unordered(fail, [error]))
    assert str(caught.value) == str(error)
    assert 'in fail\n    raise error' in ''.join(traceback.format_exception(caught.value))


def test_errors_that_can_not_be_sent_keep_their_words(children):
    with ProcessPool(['a'], start, ()) as pool, pytest.raises(RealESRGANError, match='^this and that$'):
        list(pool.imap_unordered(fail_oddly, [0]))


def test_a_worker_that_can_not_start(children, caplog):
    with ProcessPool(['a'], start_badly, ()) as pool, pytest.raises(WorkerError, match='on a failed: no context on a'):
        list(pool.imap_unordered(double, [1, 2]))
    assert len(caplog.records) == 1


def test_leaving_ends_workers_that_are_busy(children):
    with ProcessPool(['a', 'b'], start, ()) as pool:
        results = pool.imap_unordered(slowly, range(100))
        next(results)
        assert len(psutil.Process().children()) >= 2


def test_an_idle_worker_may_die(children):
    with ProcessPool(['a', 'b'], start, ()) as pool:
        for count, _ in enumerate(pool.imap_unordered(slowly, range(3))):
            idle = [worker for worker in pool._workers if worker.order is None]
            if count == 1 and idle:
                psutil.Process(idle[0]._process.pid).kill()
        assert count == 2


def test_the_methods_are_those_of_multiprocessing():
    used = [name for name in vars(Pool) if not name.startswith('_')]
    assert used == ['imap_unordered', 'terminate']
    for name in [*used, '__enter__', '__exit__']:
        assert callable(getattr(multiprocessing.pool.Pool, name))
    with multiprocessing.get_context('spawn').Pool(1, start, ('here',)) as pool:
        assert list(pool.imap_unordered(double, [1, 2])) == [2, 4]
