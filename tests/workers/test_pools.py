"""What every pool does. A new pool goes into POOLS and passes all of this."""
from __future__ import annotations

import logging
import re
import traceback

import psutil
import pytest

from realesrgan.errors import BugError, DiskFullError, RealESRGANError, WorkerError, explain
from realesrgan.log import about, report_warnings
from realesrgan.workers.options import Place
from realesrgan.workers.pool import SerialPool, make_pool
from realesrgan.workers.process_pool import ProcessPool
from tests.support.pool_workers import (
    Breaking,
    Counter,
    Doubler,
    Nested,
    Raiser,
    Whereabouts,
    build_badly,
    build_without_weights,
)

POOLS = {
    'serial': lambda build: SerialPool(build, Place()),
    'one process': lambda build: ProcessPool(build, [Place()]),
    'two processes': lambda build: ProcessPool(build, [Place(0), Place(1)]),
    'ray': 'make_ray_pool',  # a fixture
}


@pytest.fixture(params=[pytest.param(make, id=name, marks=[pytest.mark.xdist_group('ray')] * (name == 'ray'))
                        for name, make in POOLS.items()])
def make(request):
    """Make a pool, and see that it leaves no process behind but the one that multiprocessing keeps."""
    make = request.getfixturevalue(request.param) if isinstance(request.param, str) else request.param
    before = psutil.Process().children()  # Ray's own
    yield make
    left = [child for child in psutil.Process().children() if 'resource_tracker' not in ' '.join(child.cmdline())]
    assert set(left) <= set(before)


def ignore(_note):
    pass


def test_every_task_gives_a_result(make):
    with make(Doubler) as pool:
        assert sorted(pool.map_unordered(range(7), ignore)) == [0, 2, 4, 6, 8, 10, 12]


def test_no_tasks_give_no_results(make):
    with make(Doubler) as pool:
        assert list(pool.map_unordered([], ignore)) == []


def test_reports_arrive(make):
    heard = []
    with make(Doubler) as pool:
        list(pool.map_unordered(range(7), heard.append))
    assert sorted(heard) == [('doubling', number) for number in range(7)]


def test_log_lines_arrive_with_the_file_they_are_about(make, caplog):
    heard = []
    with make(Doubler) as pool, about('film.mp4'), report_warnings(lambda *line: heard.append(line)):
        list(pool.map_unordered([3, 4], ignore))
    assert sorted(source for source, _ in heard) == ['film.mp4', 'film.mp4']
    assert sorted(line.split(' on ')[0] for _, line in heard) == ['3 is doubled', '4 is doubled']
    assert sorted(record.getMessage().split(' on ')[0] for record in caplog.records) == [
        '3 is doubled', '4 is doubled']


def test_workers_live_from_call_to_call(make):
    with make(Counter) as pool:
        first = dict(pool.map_unordered([0], ignore))
        second = list(pool.map_unordered([0], ignore))
    [(process, count)] = second
    assert (process, count - 1) in first.items()


@pytest.mark.parametrize('error', [RealESRGANError('bad'), FileNotFoundError(2, 'no', 'x')])
def test_an_error_of_a_task_is_raised_and_the_pool_can_be_used_again(make, error):
    with make(Raiser) as pool:
        with pytest.raises(type(error)) as caught:
            list(pool.map_unordered([error], ignore))
        assert str(caught.value) == str(error)
        assert list(pool.map_unordered(['still here'], ignore)) == ['still here']


@pytest.mark.parametrize('error', [RealESRGANError('bad'), EOFError('the end'), KeyError('x')])
def test_a_task_that_fails_leaves_the_others_alone_where_its_error_is_taken(make, error):
    failed = []
    with make(Raiser) as pool:
        done = list(pool.map_unordered([*range(5), error, *range(5, 10)], ignore, lambda *pair: failed.append(pair)))
        [(task, told)] = failed
        assert sorted(done) == list(range(10))
        assert (type(task), str(task)) == (type(error), str(error))
        assert str(told) == str(explain(error))
        assert list(pool.map_unordered(['still here'], ignore)) == ['still here']


def test_what_no_other_task_would_survive_is_raised_nevertheless(make):
    with make(Raiser) as pool, pytest.raises(DiskFullError, match='^full$'):
        list(pool.map_unordered([1, DiskFullError('full'), *range(50)], ignore, lambda *pair: pytest.fail(str(pair))))
    for build in build_without_weights, build_badly:
        with make(build) as pool, pytest.raises(RealESRGANError, match='^no weights$|no worker can be built: .*no co'):
            list(pool.map_unordered(range(9), ignore, lambda *pair: pytest.fail(str(pair))))


def test_after_an_error_nothing_of_the_other_tasks_comes_later(make):
    with make(Raiser) as pool:
        with pytest.raises(RealESRGANError, match='^bad$'):
            list(pool.map_unordered([RealESRGANError('bad'), *range(20)], ignore))
        assert sorted(pool.map_unordered([100, 101], ignore)) == [100, 101]


def test_errors_inside_results_and_reports_keep_their_words(make):
    heard = []
    with make(Nested) as pool:
        [[odd, missing]] = pool.map_unordered([0], heard.append)
    assert isinstance(odd, RealESRGANError)
    assert str(odd) == str(heard[0]['error']) == 'one and two'
    assert (missing.errno, missing.filename) == (2, 'x')


def test_a_worker_that_can_not_be_built_says_why(make):
    with make(build_without_weights) as pool, pytest.raises(RealESRGANError, match='^no weights$'):
        list(pool.map_unordered([1], ignore))


def test_what_the_listener_raises_ends_the_tasks(make):
    class Stop(BaseException):
        pass

    def stop(_note):
        raise Stop

    with make(Whereabouts) as pool, pytest.raises(Stop):
        list(pool.map_unordered([0.01] * 50, stop))


def test_results_that_nobody_takes_stop_the_tasks(make):
    heard = []
    with make(Whereabouts) as pool:
        next(pool.map_unordered([0.01] * 50, heard.append))
    assert len(heard) < 50


def test_what_the_listener_raises_is_raised(make):
    def fail(_note):
        raise ValueError('the caller\'s own')
    with make(Doubler) as pool, pytest.raises(ValueError, match='^the caller\'s own$'):
        list(pool.map_unordered([1], fail))


@pytest.mark.parametrize('error', [MemoryError('alloc'), RuntimeError('CUDA error: out of luck')])
def test_a_worker_that_is_short_of_memory_or_broken_is_built_anew_and_tries_once_more(make, tmp_path, error, caplog):
    (tmp_path / 'failures').write_text('1')
    with make(Breaking) as pool:
        assert list(pool.map_unordered([(tmp_path, error)], ignore)) == ['done by the second']
    (record,) = caplog.records
    assert re.search(rf'{error}; (it|\(.*\)) is tried again', record.getMessage())
    (tmp_path / 'failures').write_text('9')
    expected = (WorkerError, MemoryError) if isinstance(error, MemoryError) else BugError
    with make(Breaking) as pool, pytest.raises(expected, match=str(error)) as caught:
        list(pool.map_unordered([(tmp_path, error)], ignore))
    assert 'raise error' in ''.join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(('places', 'isolate', 'kind'), [
    ([Place()], False, SerialPool), ([Place()], True, ProcessPool), ([Place(0), Place(1)], False, ProcessPool)])
def test_this_process_is_the_pool_where_one_worker_is_enough(places, isolate, kind):
    with make_pool(Doubler, places, lambda: None, isolate=isolate) as pool:
        assert type(pool) is kind


def test_the_place_is_what_the_worker_was_built_with(make):
    with make(Whereabouts) as pool:
        places = {place for place, _ in pool.map_unordered([0.05] * 6, ignore)}
    assert {Place(place.gpu_id) for place in places} <= {Place(), Place(0), Place(1)}
    assert all(place.workers == 1 for place in places)
    assert logging.getLogger('realesrgan').level == logging.NOTSET
