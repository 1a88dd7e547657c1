"""How long properties are tried: `make fuzz` takes the profile `long`, `make test` the same few examples every time."""
from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

_COMMON = {'deadline': None, 'suppress_health_check': list(HealthCheck)}
settings.register_profile('short', derandomize=True, database=None, max_examples=50, **_COMMON)
settings.register_profile('long', max_examples=5000, phases=[Phase.reuse, Phase.generate], print_blob=True, **_COMMON)
settings.load_profile('short')

_SECONDS_OF_A_HANG = 60


@contextlib.contextmanager
def _no_hang() -> Iterator[None]:
    def fail(*_):
        raise AssertionError(f'one example took more than {_SECONDS_OF_A_HANG} seconds')
    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(_SECONDS_OF_A_HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope='session')
def no_hang():
    """A context in which one example may not take forever."""
    return _no_hang


@pytest.fixture(autouse=True, scope='module')
def bounded_memory():
    """No example of a module takes much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB
