"""What passes between a run and its caller."""
from __future__ import annotations

import logging
import threading

import pytest

from realesrgan.errors import Cancelled, ImageError
from realesrgan.events import Found, Outcome, Run, Warned
from realesrgan.log import about, create_thread


def test_events_arrive_in_the_callers_thread_warnings_of_other_threads_too():
    heard = []
    run = Run(lambda event: heard.append((event, threading.current_thread())), None)

    def warn():
        with about('a.png'):
            logging.getLogger('realesrgan.test').warning('careful')
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
        logging.getLogger('realesrgan.test').warning('careful')
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


def test_nothing_that_goes_on_after_errors_goes_on_after_a_cancelled_run():
    assert not issubclass(Cancelled, Exception)


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
