"""Devices with a Vulkan driver."""
from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from realesrgan.engines import vulkan_gpus
from realesrgan.engines.devices import Device

PROJECT = Path(__file__).parents[2]


def test_a_machine_without_device_files_is_not_asked(monkeypatch):
    monkeypatch.setattr(vulkan_gpus, 'may_have_gpus', lambda: False)
    monkeypatch.setattr(vulkan_gpus, '_count', lambda: pytest.fail('was asked'))
    assert vulkan_gpus.list_real_gpus() == []


def test_a_card_comes_first_and_software_is_no_real_gpu(monkeypatch):
    monkeypatch.setattr(vulkan_gpus, 'may_have_gpus', lambda: True)
    monkeypatch.setattr(vulkan_gpus, '_count', lambda: 3)
    monkeypatch.setattr(vulkan_gpus, 'get_kind', lambda gpu: [1, 3, 0][gpu.index])
    assert vulkan_gpus.list_real_gpus() == [Device('vulkan', 2), Device('vulkan', 0)]
    assert vulkan_gpus.list_gpus() == [Device('vulkan', 2), Device('vulkan', 0), Device('vulkan', 1)]


def test_without_ncnn_there_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ncnn', None)
    assert vulkan_gpus.list_gpus() == []
    assert vulkan_gpus.explain_absence() == 'ncnn is not installed: pip install ncnn'


def test_without_a_driver_there_is_none():
    """In a process of its own, because ncnn asks once."""
    code = 'from realesrgan.engines import vulkan_gpus as v; print(v.list_gpus(), v.explain_absence())'
    environment = os.environ | {'VK_ICD_FILENAMES': '/nowhere', 'VK_DRIVER_FILES': '/nowhere'}
    result = subprocess.run([sys.executable, '-c', code], env=environment, cwd=PROJECT, capture_output=True, text=True,
                            check=True)
    assert result.stdout == ('[] no GPU with a Vulkan driver was found '
                             '(Debian: apt-get install mesa-vulkan-drivers)\n')
    assert result.stderr == ''


def test_what_a_library_writes_to_stderr_goes_to_the_log(capfd, caplog):
    caplog.set_level(logging.DEBUG)
    with vulkan_gpus._log_stderr():
        os.write(2, b'[0 Radeon]  queueC=1\n[0 Radeon]  fp16\n')
    os.write(2, b'after\n')
    assert capfd.readouterr().err == 'after\n'
    assert caplog.messages == ['ncnn: [0 Radeon]  queueC=1', 'ncnn: [0 Radeon]  fp16']


def test_a_closed_stderr_stays_closed():
    code = ('import os, sys; os.close(2); from realesrgan.engines import vulkan_gpus as v\n'
            'with v._log_stderr(): print("inside")')
    result = subprocess.run([sys.executable, '-c', code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert result.stdout == 'inside\n'


def test_an_ncnn_that_can_not_be_loaded_is_told_of(tmp_path):
    (tmp_path / 'ncnn').mkdir()
    (tmp_path / 'ncnn/__init__.py').write_text("raise ImportError('libstdc++.so.6: missing')")
    code = ('from realesrgan.engines import vulkan_gpus as v; v.may_have_gpus = lambda: True\n'
            'print(v.list_gpus(), v.list_real_gpus(), v.explain_absence())')
    result = subprocess.run([sys.executable, '-c', code], cwd=PROJECT, capture_output=True, text=True, check=True,
                            env=os.environ | {'PYTHONPATH': f'{tmp_path}{os.pathsep}{PROJECT}'})
    assert result.stdout == "[] [] ncnn can't be loaded: libstdc++.so.6: missing\n"


def test_where_no_folder_can_be_written_to_ncnn_starts_too(monkeypatch):
    def fail():
        raise FileNotFoundError('no usable temporary directory')
    monkeypatch.setattr(vulkan_gpus.tempfile, 'TemporaryFile', fail)
    with vulkan_gpus._log_stderr():
        pass
