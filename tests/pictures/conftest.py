"""Fixtures of the tests of pictures."""
from __future__ import annotations

import logging

import pytest


@pytest.fixture
def logged(caplog, monkeypatch):
    """The log of the package from INFO on."""
    caplog.set_level(logging.INFO, 'realesrgan')
    monkeypatch.setattr(logging.getLogger('imagecodecs'), 'disabled', True)  # whose warnings only others get
    return caplog
