"""Pools of processes: what happens when a worker dies, and what its errors look like here."""
from __future__ import annotations

import time
import traceback

import psutil
import pytest

from realesrgan.errors import EngineError, RealESRGANError, WorkerError
from realesrgan.workers.options import Place
from realesrgan.workers.process_pool import ProcessPool
from tests.support.pool_workers import Forgetful, Mortal, Raiser, Talker, Whereabouts, build_badly

A, B = Place(0), Place(1)


@pytest.fixture(autouse=True)
def no_child_stays():
    yield
    left = [child for child in psutil.Process().children() if 'resource_tracker' not in ' '.join(child.cmdline())]
    assert left == []


def ignore(_note):
    pass


def test_a_place_listed_twice_gets_two_workers():
    with ProcessPool(Whereabouts, [A, A, B]) as pool:
        assert len({process for _, process in pool.map_unordered([0.5] * 3, ignore)}) == 3
    with ProcessPool(Whereabouts, [A, A, B]) as pool:
        assert sorted(place.gpu_id for place, _ in pool.map_unordered([0.5] * 3, ignore)) == [0, 0, 1]


def test_no_more_workers_than_tasks():
    with ProcessPool(Whereabouts, [A, B]) as pool:
        assert [place for place, _ in pool.map_unordered([0], ignore)] == [A]


def test_what_all_workers_say_while_they_are_built_is_logged_once(caplog):
    with ProcessPool(Talker, [A, B]) as pool:
        list(pool.map_unordered([1, 2, 3], ignore))
    assert sorted(record.getMessage() for record in caplog.records) == ['at work'] * 3 + ['built']


@pytest.mark.parametrize(('places', 'deaths', 'log'), [([A, B], 1, '0 0'), ([A, B], 2, '0 0 1'), ([A], 1, '0 0')])
def test_a_worker_that_dies_is_replaced(tmp_path, caplog, places, deaths, log):
    (tmp_path / 'deaths').write_text(str(deaths))
    with ProcessPool(Mortal, places) as pool:
        assert list(pool.map_unordered([tmp_path], ignore)) == [deaths + 1]
    assert (tmp_path / 'log').read_text().split() == log.split()
    assert caplog.records[0].getMessage() == (
        f'a worker on GPU 0 was killed, as the system does when memory runs out; {tmp_path} is tried again on GPU 0')
    assert len(caplog.records) == deaths


@pytest.mark.parametrize(('places', 'last'), [([A], 0), ([A, B], 1)])
def test_a_task_that_kills_every_worker_ends_the_run(tmp_path, places, last):
    (tmp_path / 'deaths').write_text('9')
    with ProcessPool(Mortal, places) as pool, pytest.raises(WorkerError, match=f'^a worker on GPU {last} was killed'):
        list(pool.map_unordered([tmp_path], ignore))
    assert (tmp_path / 'log').read_text().split() == ['0', '0', '1'][:len(places) + 1]


def test_a_task_that_kills_every_worker_leaves_the_others_alone(tmp_path):
    for name, deaths in ('a', 0), ('b', 9), ('c', 0):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'deaths').write_text(str(deaths))
    failed = []
    with ProcessPool(Mortal, [A, B]) as pool:
        done = list(pool.map_unordered([tmp_path / name for name in 'abc'], ignore, lambda *pair: failed.append(pair)))
    assert done == [1, 1]
    [(task, error)] = failed
    assert task == tmp_path / 'b'
    assert str(error).startswith('a worker on GPU ')


def test_a_lack_of_memory_gets_another_process(tmp_path, caplog):
    with ProcessPool(Forgetful, [A]) as pool:
        [process] = pool.map_unordered([tmp_path], ignore)
    first, second = map(int, (tmp_path / 'log').read_text().split())
    assert first != second == process
    assert caplog.records[0].getMessage() == (
        f'a worker on GPU 0 failed: frame 7: not enough; {tmp_path} is tried again on GPU 0')


def test_an_error_brings_the_traceback_of_the_worker():
    with ProcessPool(Raiser, [A, B]) as pool, pytest.raises(RealESRGANError) as caught:
        list(pool.map_unordered([RealESRGANError('bad')], ignore))
    assert 'raise task' in ''.join(traceback.format_exception(caught.value))


def test_an_error_that_can_not_be_sent_keeps_its_words():
    with ProcessPool(Raiser, [A]) as pool, pytest.raises(RealESRGANError, match='^this and that$'):
        list(pool.map_unordered(['odd'], ignore))


def test_a_worker_that_breaks_while_it_is_built_is_tried_again_once(caplog):
    with ProcessPool(build_badly, [A]) as pool, pytest.raises(
            EngineError, match='^no worker can be built: a worker on GPU 0 failed: no context on GPU 0$'):
        list(pool.map_unordered([1, 2], ignore))
    assert len(caplog.records) == 1


def test_leaving_ends_workers_that_are_busy():
    with ProcessPool(Whereabouts, [A, B]) as pool:
        results = pool.map_unordered([0.2] * 100, ignore)
        next(results)
        assert len(psutil.Process().children()) >= 2


def test_an_idle_worker_may_die():
    """Of two workers one is killed after its first task, when no task is left for it; the other goes on."""
    with ProcessPool(Whereabouts, [A, B]) as pool:
        results = pool.map_unordered([0, 1.5], ignore)
        place, victim = next(results)
        assert place == A
        psutil.Process(victim).kill()
        assert [place for place, _ in results] == [B]
    assert not psutil.pid_exists(victim)


def test_a_worker_that_died_between_two_calls_is_replaced(caplog):
    with ProcessPool(Whereabouts, [A]) as pool:
        [(_, victim)] = pool.map_unordered([0], ignore)
        psutil.Process(victim).kill()
        [(place, process)] = pool.map_unordered([0], ignore)
    assert place == A
    assert process != victim
    assert len(caplog.records) == 1


def test_check_is_called_while_workers_work_and_may_end_the_tasks():
    class Stop(BaseException):
        pass

    calls = []

    def check():
        calls.append(time.monotonic())
        if len(calls) > 3:
            raise Stop

    with ProcessPool(Whereabouts, [A], check) as pool, pytest.raises(Stop):
        list(pool.map_unordered([600], ignore))
