"""Events between a run and its caller; log lines know the file they are about, and reach the run they belong to."""
from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from realesrgan.errors import Cancelled, ImageError
from realesrgan.events import Found, Outcome, Run, Warned
from realesrgan.log import about, create_thread, prefix_subject, report_warnings

logger = logging.getLogger('realesrgan.test')


def test_events_arrive_in_the_callers_thread_warnings_of_other_threads_too():
    heard = []
    run = Run(lambda event: heard.append((event, threading.current_thread())), None)

    def warn():
        with about('a.png'):
            logger.warning('careful')
    with run.session():
        thread = create_thread(warn, 'reader')
        thread.start()
        thread.join()
        assert heard == []
        run.emit(Found(3))
    assert heard == [(event, threading.current_thread()) for event in (Warned('a.png', 'careful'), Found(3))]


def test_waiting_warnings_are_reported_in_the_end():
    heard = []
    run = Run(heard.append, None)
    with run.session():
        logger.warning('careful')
    assert heard == [Warned('', 'careful')]


def test_a_cancelled_run_ends_at_its_next_step():
    cancel = threading.Event()
    run = Run(None, cancel)
    run.check()
    run.emit(Found(1))
    cancel.set()
    for step in (run.check, lambda: run.emit(Found(1))):
        with pytest.raises(Cancelled):
            step()


@pytest.mark.parametrize(('outcome', 'failed'), [
    (Outcome('a'), False), (Outcome('a', skipped=True), False), (Outcome('a', error=ImageError('bad')), True),
    (Outcome('a', problems=('no sound',)), True)])
def test_what_counts_as_failed(outcome, failed):
    assert outcome.failed is failed


def test_what_the_listener_raises_passes_everything_that_catches_errors():
    def raise_error(_event):
        raise ValueError('enough')
    run = Run(raise_error, None)
    with pytest.raises(ValueError, match='enough'), run.session():
        try:
            run.emit(Found(1))
        except Exception:
            pytest.fail('taken for an error of a picture')


# ---- log lines ----

def record(message):
    return logging.LogRecord('realesrgan.test', logging.WARNING, __file__, 1, message, (), None)


def test_the_file_stands_in_front_once():
    with about('a.png'):
        for message, shown in (('is damaged', 'a.png: is damaged'), ('a.png: is damaged', 'a.png: is damaged'),
                               ('a.pngs are many', 'a.png: a.pngs are many')):
            assert prefix_subject(record('x'), message) == shown
        with about('b.png'):
            assert prefix_subject(record('x'), 'is damaged') == 'b.png: is damaged'
    assert prefix_subject(record('x'), 'is damaged') == 'is damaged'


def test_warnings_are_reported_and_news_are_not():
    seen = []
    logger.warning('before')
    with report_warnings(lambda *line: seen.append(line)), about('a.png'):
        logger.info('news')
        logger.warning('number %d', 7)
    logger.warning('after')
    assert seen == [('a.png', 'number 7')]


def test_runs_in_two_threads_report_their_own_warnings_only():
    seen = {'one': [], 'two': []}
    both = threading.Barrier(2)

    def run(name):
        with report_warnings(lambda _, message: seen[name].append(message)):
            both.wait(30)
            logger.warning('%s itself', name)
            thread = create_thread(lambda: logger.warning('%s in a thread', name), name)
            thread.start()
            thread.join()
            both.wait(30)
    with ThreadPoolExecutor() as pool:
        list(pool.map(run, seen))
    assert seen == {name: [f'{name} itself', f'{name} in a thread'] for name in seen}
