"""Pools of processes: what happens when a worker dies, and what its errors look like here."""
from __future__ import annotations

import time
import traceback

import psutil
import pytest

from realesrgan.errors import EngineError, RealESRGANError, WorkerError
from realesrgan.pool.pool import Place
from realesrgan.pool.processes import ProcessPool
from tests.support.pool_workers import Forgetful, Mortal, Raiser, Talker, Whereabouts, build_badly

A, B = Place(0), Place(1)


@pytest.fixture(autouse=True)
def no_child_stays():
    yield
    left = [child for child in psutil.Process().children() if 'resource_tracker' not in ' '.join(child.cmdline())]
    assert left == []


def ignore(_task, _note):
    pass


def run(build, places, tasks):
    with ProcessPool(build, places) as pool:
        return [result for _, result in pool.map_unordered(tasks, ignore)]


def test_workers_are_where_they_are_to_be_and_no_more_than_tasks():
    found = run(Whereabouts, [A, B, A], [0.5] * 3)
    assert len({process for _, process in found}) == 3
    assert sorted(place.gpu_id for place, _ in found) == [0, 0, 1]
    assert [place for place, _ in run(Whereabouts, [A, B], [0])] == [A]


def test_messages_of_all_workers_while_they_are_built_are_logged_once(caplog):
    run(Talker, [A, B], [1, 2, 3])
    assert sorted(record.getMessage() for record in caplog.records) == ['at work'] * 3 + ['built']


@pytest.mark.parametrize(('places', 'deaths', 'log'), [
    ([A, B], 1, '0 0'), ([A, B], 2, '0 0 1'), ([A], 1, '0 0'), ([A], 9, '0 0'), ([A, B], 9, '0 0 1')])
def test_a_worker_that_dies_is_replaced_and_its_task_tried_there_again_and_then_elsewhere(
        tmp_path, caplog, places, deaths, log):
    (tmp_path / 'deaths').write_text(str(deaths))
    [result] = run(Mortal, places, [tmp_path])
    assert (tmp_path / 'log').read_text().split() == log.split()
    if deaths < 9:
        assert result == deaths + 1
    else:
        assert isinstance(result, WorkerError)
        assert str(result).startswith(f'a worker on {places[-1]} was killed')
    assert caplog.records[0].getMessage() == (
        f'a worker on GPU 0 was killed, as the system does when memory runs out; {tmp_path} is tried again')
    assert len(caplog.records) == len(log.split()) - 1


def test_a_task_that_kills_every_worker_leaves_the_others_alone(tmp_path):
    for name, deaths in ('a', 0), ('b', 9), ('c', 0):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'deaths').write_text(str(deaths))
    with ProcessPool(Mortal, [A, B]) as pool:
        found = dict(pool.map_unordered([tmp_path / name for name in 'abc'], ignore))
    assert found[tmp_path / 'a'] == found[tmp_path / 'c'] == 1
    assert str(found[tmp_path / 'b']).startswith('a worker on GPU ')


def test_a_lack_of_memory_gets_another_process(tmp_path, caplog):
    [process] = run(Forgetful, [A], [tmp_path])
    first, second = map(int, (tmp_path / 'log').read_text().split())
    assert first != second == process
    assert caplog.records[0].getMessage() == (
        f'a worker on GPU 0 failed: frame 7: not enough; {tmp_path} is tried again')


def test_an_error_brings_the_traceback_of_the_worker_and_keeps_its_words():
    [error] = run(Raiser, [A, B], [RealESRGANError('bad')])
    assert 'raise task' in ''.join(traceback.format_exception(error))
    [error] = run(Raiser, [A], ['odd'])  # can't be sent as it is
    assert (type(error), str(error)) == (RealESRGANError, 'this and that')


def test_a_worker_that_breaks_while_it_is_built_is_tried_again_once(caplog):
    with pytest.raises(EngineError,
                       match='^no worker can be built: a worker on GPU 0 failed: no context on GPU 0$'):
        run(build_badly, [A], [1, 2])
    assert len(caplog.records) == 1


def test_an_idle_worker_may_die():
    """One of two workers is killed after its first task, when no task is left for it; the other continues."""
    with ProcessPool(Whereabouts, [A, B]) as pool:
        results = pool.map_unordered([0, 1.5], ignore)
        _, (place, victim) = next(results)
        assert place == A
        psutil.Process(victim).kill()
        assert [place for _, (place, _) in results] == [B]
    assert not psutil.pid_exists(victim)


def test_a_worker_that_died_between_two_calls_is_replaced(caplog):
    with ProcessPool(Whereabouts, [A]) as pool:
        [(_, (_, victim))] = pool.map_unordered([0], ignore)
        psutil.Process(victim).kill()
        [(_, (place, process))] = pool.map_unordered([0], ignore)
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
