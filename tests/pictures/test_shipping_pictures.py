"""Pictures that lie on another machine: results are the same, and get where they belong."""
from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import files
from depots import DirectClient

from realesrgan.errors import ClusterError, UsageError
from realesrgan.events import Examined, Outcome, Progress
from realesrgan.pictures.run import PictureOptions, upscale_pictures
from realesrgan.workers import cluster
from realesrgan.workers.options import ClusterOptions, Place, UpsamplerOptions
from realesrgan.workers.pool import SerialPool

HERE = PictureOptions(UpsamplerOptions('realesr-animevideov3'))
THERE = replace(HERE, cluster=ClusterOptions(ship_data=True))


class Elsewhere:
    """Stands for a cluster: its worker sees no files but through a depot."""

    def __init__(self, inputs):
        self.depot = DirectClient(Path.cwd(), inputs)

    def make_pool(self, build, options, faces, ship, check):
        return SerialPool(lambda place: ship(self.depot, build(place)), Place())


@pytest.fixture
def clusters(tmp_path, monkeypatch):
    """Let `open_cluster` return one of `Elsewhere`; list them."""
    opened = []

    @contextlib.contextmanager
    def open_cluster(options, inputs, files, output):
        opened.append(Elsewhere(inputs))
        yield opened[-1]
    monkeypatch.setattr(cluster, 'open_cluster', open_cluster)
    (tmp_path / 'tmp').mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'tmp'))
    monkeypatch.chdir(tmp_path)
    return opened


def paint(path, channels=3, seed=0):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (9, 12, channels), np.uint8))


def read_all(folder):
    return {name: Path(folder, name).read_bytes() for name in files(folder)}


def simplify(outcomes, folder):
    """Outcomes without what differs from run to run; targets relative to the folder."""
    return sorted((outcome.source, str(outcome.error), outcome.problems, outcome.size, outcome.result_size,
                   *(path and str(path.relative_to(folder)) for path in (outcome.target, outcome.comparison)))
                  for outcome in outcomes)


def test_results_are_those_of_one_machine(clusters):
    for index, name in enumerate(('a.png', 'b c%.jpg', 'deep/er/d#.webp', 'deep/a.png', 'ü\n.png', 'five.bmp')):
        paint(f'in/{name}', seed=index)
    paint('in/deep/alpha.png', 4)
    (Path('in') / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\n nothing')
    heard = []
    options = {'recursive': True, 'compare': True, 'check': True, 'extension': 'jpg'}
    there = upscale_pictures('in', 'there', replace(THERE, **options), on_event=heard.append)
    here = upscale_pictures('in', 'here', replace(HERE, **options))
    assert simplify(there, 'there') == simplify(here, 'here')
    assert read_all('there') == read_all('here')
    assert len(read_all('here')) == 14
    assert len(there) == 8
    assert sum(isinstance(event, Examined) for event in heard) == 7
    assert {event.source for event in heard if isinstance(event, Progress)} == {
        outcome.source for outcome in there if not outcome.failed}
    [elsewhere] = clusters
    assert elsewhere.depot.bytes_read == sum(len(data) for data in read_all('in').values())
    assert files('tmp') == []


def test_a_result_never_overwrites_an_input_or_another_result(clusters):
    paint('in/a.png')
    paint('in/a_out.png', seed=1)
    before = read_all('in')
    for options in THERE, HERE:
        outcomes = upscale_pictures(['in/a.png', 'in/a_out.png'], 'in', options)
        assert str(outcomes[0].error) == (
            'its result would overwrite the input in/a_out.png; choose another --suffix or -o')
        assert {name: data for name, data in read_all('in').items() if name in before} == before
        (Path('in') / 'a_out_out.png').unlink()


def test_comparisons_that_would_share_a_name(clusters):
    paint('in/a.png')
    paint('in/a.jpg', seed=1)
    for folder, options in (('there', THERE), ('here', HERE)):
        outcomes = upscale_pictures('in', folder, replace(options, compare=True))
        assert [outcome.problems for outcome in outcomes] == [(), (
            f'no comparison: it would overwrite another\'s, {folder}/a_out_compare.jpg; give it another name',)]
    assert read_all('there') == read_all('here')
    assert sorted(read_all('here')) == ['a_out.jpg', 'a_out.png', 'a_out_compare.jpg']


def test_what_can_be_read_once_only_is_refused(clusters):
    os.mkfifo('pipe.png')
    with pytest.raises(UsageError, match='^pipe.png: --cluster needs files, which nodes can read too$'):
        upscale_pictures('pipe.png', 'out', THERE)


def test_a_depot_that_is_gone_ends_the_run(clusters, monkeypatch):
    paint('a.png')
    paint('b.png')

    def fail(self, method, *arguments):
        raise ClusterError('gone')
    monkeypatch.setattr(DirectClient, '_ask', fail)
    with pytest.raises(ClusterError, match='^gone$'):
        upscale_pictures(['a.png', 'b.png'], 'out', THERE)


def test_folders_that_are_one_through_a_link(clusters):
    paint('in/x/a.png')
    paint('in/y/a.png', seed=1)
    Path('out/x').mkdir(parents=True)
    Path('out/y').symlink_to('x')
    outcomes = upscale_pictures('in', 'out', replace(THERE, recursive=True))
    assert [outcome.failed for outcome in outcomes] == [False, True]
    assert str(outcomes[1].error) == 'its result would overwrite another\'s, out/y/a_out.png; give it another name'
    assert files('out') == ['x/a_out.png']


def test_a_picture_that_is_larger_than_allowed_is_not_fetched(clusters):
    Path('a.png').write_bytes(bytes(100 << 20))
    [outcome] = upscale_pictures('a.png', 'out', replace(THERE, max_pixels=1000))
    assert str(outcome.error).startswith('has more than 64 MiB, which no picture of 1000 pixels needs')
    assert clusters[0].depot.bytes_read == 0


def test_a_result_that_can_not_be_stored_is_an_error_of_its_picture(clusters, monkeypatch):
    paint('a.png')
    paint('b.png')
    real = DirectClient._ask

    def fail(self, method, *arguments):
        if method == 'create' and arguments[1] == 'a.png':
            raise OSError(28, 'No space left on device', arguments[0])
        return real(self, method, *arguments)
    monkeypatch.setattr(DirectClient, '_ask', fail)
    outcomes = upscale_pictures(['a.png', 'b.png'], 'out', THERE)
    assert isinstance(outcomes[0].error, OSError)
    assert outcomes[0] == Outcome('a.png', error=outcomes[0].error)
    assert (outcomes[1].error, outcomes[1].target) == (None, Path('out/b_out.png'))
    assert files('out') == ['b_out.png']
    assert files('tmp') == []
