"""The behaviour of every pool. A new pool goes into POOLS and passes all tests here."""
from __future__ import annotations

import logging
import re
import threading
import traceback

import psutil
import pytest

from realesrgan.errors import BugError, DiskFullError, RealESRGANError, WorkerError, explain
from realesrgan.log import about
from realesrgan.pipeline import read_ahead
from realesrgan.pool.pool import Place, SerialPool, make_pool
from realesrgan.pool.processes import ProcessPool
from tests.support.pool_workers import (
    Breaking,
    Counter,
    Doubler,
    Nested,
    Raiser,
    RaisingWhereabouts,
    Whereabouts,
    build_badly,
    build_without_weights,
)

POOLS = {
    'serial': lambda build, **more: SerialPool(build, Place(), **more),
    'one process': lambda build, **more: ProcessPool(build, [Place()], **more),
    'two processes': lambda build, **more: ProcessPool(build, [Place(0), Place(1)], **more),
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


def ignore(_task, _note):
    pass


def results(pairs):
    return sorted(result for _, result in pairs)


def test_every_task_gives_a_result_and_its_notes(make):
    notes = []
    with make(Doubler) as pool:
        pairs = list(pool.map_unordered(range(7), lambda *pair: notes.append(pair)))
        assert list(pool.map_unordered([], ignore)) == []
    assert sorted(pairs) == [(number, 2 * number) for number in range(7)]
    assert sorted(notes) == [(number, ('doubling', number)) for number in range(7)]


def test_tasks_are_taken_when_a_worker_is_free(make):
    taken, most = [], []

    def tasks():
        for number in range(12):
            taken.append(number)
            yield number
    with make(Doubler) as pool:
        for done, _ in enumerate(pool.map_unordered(tasks(), ignore)):
            most.append(len(taken) - done)
    assert len(taken) == 12
    assert max(most) <= 5  # two workers at most, the next task of each, and one that is done


def test_a_pool_does_not_wait_for_tasks_while_others_work(make):
    first_is_done = threading.Event()

    def tasks():
        yield 1
        assert first_is_done.wait(60)
        yield 2
    with make(Doubler) as pool, read_ahead(tasks(), 1) as ahead:
        done = [(task, first_is_done.set()) for task, _ in pool.map_unordered(ahead, ignore)]
    assert [task for task, _ in done] == [1, 2]


def test_log_lines_arrive_with_the_file_they_are_about(make, caplog):
    caplog.handler.addFilter(lambda record: subjects.append(getattr(record, 'subject', None)) or True)
    subjects = []
    with make(Doubler) as pool, about('film.mp4'):
        list(pool.map_unordered([3, 4], ignore))
    assert sorted(record.getMessage().split(' on ')[0] for record in caplog.records) == [
        '3 is doubled', '4 is doubled']
    assert set(subjects) <= {'a number', None}


def test_workers_live_from_call_to_call(make):
    with make(Counter) as pool:
        first = [result for _, result in pool.map_unordered([0], ignore)]
        [(_, (process, count))] = pool.map_unordered([0], ignore)
    assert (process, count - 1) in first


def test_tasks_that_fail_leave_the_others_alone(make):
    errors = [RealESRGANError('bad'), FileNotFoundError(2, 'no', 'x'), EOFError('the end'), KeyError('x')]
    with make(Raiser) as pool:
        pairs = list(pool.map_unordered([*range(5), *errors, *range(5, 10)], ignore))
        failed = {type(task): str(failure) for task, failure in pairs if isinstance(failure, Exception)}
        assert sorted(task for task, _ in pairs if not isinstance(task, Exception)) == list(range(10))
        assert failed == {type(error): str(explain(error)) for error in errors}
        assert list(pool.map_unordered(['still here'], ignore)) == [('still here', 'still here')]


def test_an_error_that_no_other_task_would_survive_is_raised(make):
    with make(Raiser) as pool:
        with pytest.raises(DiskFullError, match='^full$'):
            list(pool.map_unordered([1, DiskFullError('full'), *range(50)], ignore))
        assert results(pool.map_unordered([100, 101], ignore)) == [100, 101]
    for build in build_without_weights, build_badly:
        with make(build) as pool, pytest.raises(RealESRGANError, match='^no weights$|no worker can be built: .*no co'):
            list(pool.map_unordered(range(9), ignore))


def test_an_error_of_the_tasks_themselves_is_raised(make):
    def tasks():
        yield 1
        raise ValueError('no more')
    with make(Doubler) as pool, pytest.raises(ValueError, match='^no more$'):
        list(pool.map_unordered(tasks(), ignore))


def test_errors_inside_results_and_notes_keep_their_words(make):
    notes = []
    with make(Nested) as pool:
        [(_, [odd, missing])] = pool.map_unordered([0], lambda *pair: notes.append(pair))
    assert isinstance(odd, RealESRGANError)
    assert str(odd) == str(notes[0][1]['error']) == 'one and two'
    assert (missing.errno, missing.filename) == (2, 'x')


def test_an_interrupt_in_a_note_ends_the_tasks(make):
    class Stop(BaseException):
        pass

    def stop(_task, _note):
        raise Stop
    with make(Whereabouts) as pool, pytest.raises(Stop):
        list(pool.map_unordered([0.01] * 50, stop))


def test_results_that_nobody_takes_stop_the_tasks(make):
    notes = []
    with make(Whereabouts) as pool:
        next(pool.map_unordered([0.01] * 50, lambda *pair: notes.append(pair)))
    assert len(notes) < 50


def test_unwanted_tasks_give_nothing_even_those_that_have_begun(make):
    unwanted = {0.02}
    with make(Whereabouts) as pool:
        done = [task for task, _ in pool.map_unordered(
            [0.01, 1, 0.02, 0.03], lambda task, _: unwanted.add(task) if task == 1 else None,
            lambda task: task not in unwanted)]
    assert sorted(done) == [0.01, 0.03] + [1] * isinstance(pool, SerialPool)


def test_no_worker_begins_an_unwanted_task_and_is_ended_for_it():
    failed, places = [], []
    with ProcessPool(RaisingWhereabouts, [Place()]) as pool:
        for task, result in pool.map_unordered([0, OSError('gone'), 0.1, 0.1, 0.1, 1e-3], ignore,
                                               lambda task: not failed or task != 0.1):
            if isinstance(result, OSError):
                failed.append(task)
            elif task != 0.1:
                places.append(result)
    assert len(places) == 2
    assert places[0] == places[1]  # in the same process


@pytest.mark.parametrize('error', [MemoryError('alloc'), RuntimeError('CUDA error: out of luck')])
def test_a_worker_that_is_short_of_memory_or_broken_is_built_anew_and_tries_once_more(make, tmp_path, error, caplog):
    task = tmp_path, error
    (tmp_path / 'failures').write_text('1')
    with make(Breaking) as pool:
        assert list(pool.map_unordered([task], ignore)) == [(task, 'done by the second')]
        (record,) = caplog.records
        assert re.search(rf'{error}; (it|\(.*\)) is tried again', record.getMessage())
        (tmp_path / 'failures').write_text('9')
        [(_, failure)] = pool.map_unordered([task], ignore)
    assert isinstance(failure, (WorkerError, MemoryError) if isinstance(error, MemoryError) else BugError)
    assert str(error) in str(failure)
    assert 'raise error' in ''.join(traceback.format_exception(failure))


def test_a_task_may_be_tried_once_only(make, tmp_path):
    (tmp_path / 'failures').write_text('1')
    task = tmp_path, RuntimeError('CUDA error: out of luck')
    with make(Breaking, attempts=1) as pool:
        [(_, failure)] = pool.map_unordered([task], ignore)
        assert isinstance(failure, BugError)
        assert list(pool.map_unordered([task], ignore)) == [(task, 'done by the second')]


@pytest.mark.parametrize(('places', 'isolate', 'kind'), [
    ([Place()], False, SerialPool), ([Place()], True, ProcessPool), ([Place(0), Place(1)], False, ProcessPool)])
def test_this_process_is_the_pool_where_one_worker_is_enough(places, isolate, kind):
    with make_pool(Doubler, places, lambda: None, isolate=isolate) as pool:
        assert type(pool) is kind


def test_the_place_is_what_the_worker_was_built_with(make):
    with make(Whereabouts) as pool:
        places = {place for _, (place, _) in pool.map_unordered([0.05] * 6, ignore)}
    assert {Place(place.gpu_id) for place in places} <= {Place(), Place(0), Place(1)}
    assert all(place.workers == 1 for place in places)
    assert logging.getLogger('realesrgan').level == logging.NOTSET
