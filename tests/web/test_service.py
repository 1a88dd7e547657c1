"""The service as its clients see it: routes, statuses, results."""
from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import psutil
import pytest
import requests
from PIL import Image

import realesrgan.web.__main__ as web
from realesrgan import errors
from realesrgan.events import Outcome
from realesrgan.options import list_options
from realesrgan.pictures import PictureOptions, upscale_pictures
from realesrgan.web import uploads
from realesrgan.web.errors import STRINGS, describe, find_row, hide_paths
from realesrgan.web.server import open_folder, run_service
from realesrgan.web.settings import Settings
from tests.support import broken_steps, clips
from tests.support.broken_steps import PICTURE_STEPS, VIDEO_STEPS
from tests.support.web_client import MODEL, decode, encode, noise, wait_until

UNKNOWN = 'this is not a picture or a video that can be read'


@pytest.fixture
def expected(tmp_path):
    """Upscale a file by the library; return the bytes of the result."""
    def upscale(data, name='picture.png', **options):
        folder = tmp_path / 'expected'
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        [outcome] = upscale_pictures(folder / name, folder / 'out', PictureOptions(model_name=MODEL, **options))
        return outcome.target.read_bytes()
    return upscale


# ---- pictures at once ----

def test_the_guides_client_works_unchanged(serve, expected, tmp_path):
    service = serve()
    data = encode(noise(20, 24), '.jpg')
    (tmp_path / 'input.jpg').write_bytes(data)
    with (tmp_path / 'input.jpg').open('rb') as file:
        response = requests.post(f'{service.url}/enhance', files={'image': file}, data={'model': MODEL}, timeout=60)
    assert response.status_code == 200
    assert response.content == expected(data, 'input.jpg')
    assert response.headers['Content-Type'] == 'image/jpeg'
    assert response.headers['Content-Disposition'] == 'attachment; filename=input_out.jpg'
    assert service.files == []


@pytest.mark.parametrize(('fields', 'options'), [
    ({'scale': '1.5'}, {'outscale': 1.5}), ({'format': 'webp'}, {'ext': 'webp'}), ({'face': '0'}, {})])
def test_fields_are_the_librarys_options(serve, expected, monkeypatch, fields, options):
    monkeypatch.setattr('mimetypes.guess_type', lambda *_, **__: (None, None))  # some systems don't know webp
    data = encode(noise(10, 12))
    response = serve().send(data, to='enhance', **fields)
    assert (response.status_code, response.content) == (200, expected(data, **options))
    assert response.headers['Content-Type'] == ('image/webp' if 'format' in fields else 'application/octet-stream')


def test_a_mark_on_its_field_lets_clients_set_an_option(serve, monkeypatch):
    """In the form and on the page, whatever kind of value it takes."""
    marked = {'tile': '--tile', 'fp32': '--fp32', 'alpha_upsampler': '--alpha_upsampler'}
    monkeypatch.setattr(uploads, 'FIELDS', uploads.FIELDS | {name: name for name in marked})
    assert uploads.read_form({'tile': '64', 'fp32': '1', 'alpha_upsampler': 'Bicubic'}) == {
        'tile': 64, 'fp32': True, 'alpha_upsampler': 'bicubic'}
    monkeypatch.setattr('realesrgan.web.app.list_installed', lambda: [MODEL])
    page = serve().get('/').text
    assert '<option value="RealESRNet_x4plus" data-missing>' in page  # whose weights would be downloaded
    assert f'<option value="{MODEL}">' in page
    for name in marked:
        assert f'name="{name}"' in page
        assert list_options(PictureOptions)[name].help in page


def test_what_did_not_go_as_asked_is_a_warning(serve, expected):
    service = serve()
    data = encode(noise(10, 12, 4))
    state = service.wait(service.send(data, 'icon.png', format='jpg', face='1'))
    assert state['warnings'] == [f'face enhancement is turned off: {MODEL} is a model for anime',
                                 'has transparency, which jpg does not hold; written as icon_out.png']
    assert state['name'] == 'icon_out.png'
    assert service.get(state['result']).content == expected(data)


def test_a_result_has_a_verdict(serve):
    service = serve()
    ramp = np.repeat(np.linspace(40, 200, 64, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    state = service.wait(service.send(encode(ramp)))
    assert state['verdict'] == {'word': 'good', 'reasons': [], 'messages': []}
    assert service.wait(service.send(encode(ramp)[:-60]))['verdict'] is None


def test_a_preview_compares_the_models_that_are_installed(serve, monkeypatch):
    service, models = serve(), [MODEL, 'RealESRGAN_x4plus_anime_6B']
    monkeypatch.setattr(uploads, 'list_installed', lambda: models)
    answer = service.client.post(f'{service.url}/jobs', files={'image': ('my cat.png', encode(noise(20, 30)))},
                                 data={'preview': '1'}, timeout=60)
    state = service.wait(answer)
    assert (state['state'], state['name'], state['size']) == ('done', 'my cat_preview.jpg', None)
    assert [each['model'] for each in state['compared']] == models
    for each in state['compared']:
        assert (each['unit'], each['error'], each['flicker']) == ('megapixel', None, None)
        assert each['seconds'] == pytest.approx(each['speed'] * 0.0006, abs=0.02)
        assert decode(service.get(each['picture']).content).shape == (80, 120, 3)
    part = decode(service.get(state['part']).content).astype(int)
    assert abs(part - cv2.resize(noise(20, 30), (120, 80), interpolation=cv2.INTER_CUBIC)).mean() < 10
    sheet = decode(service.get(state['result']).content)
    side = 720  # 120 pixels, enlarged by a whole factor to 640 at least
    assert sheet.shape[1] == 3 * side + 2 * 8
    alone = service.wait(service.send(encode(noise(20, 30)), preview='1', format='png'))
    assert ([each['model'] for each in alone['compared']], alone['name']) == ([MODEL], 'picture_preview.png')
    failed = service.wait(service.send(encode(noise(20, 30))[:-300], preview='1'))
    assert (failed['state'], failed['compared'], failed['result']) == ('failed', [], None)
    assert service.wait(service.send(encode(noise(20, 30))))['compared'] == []


def test_a_preview_of_a_video_is_of_a_frame(serve, monkeypatch, tmp_path):
    monkeypatch.setattr(uploads, 'list_installed', lambda: [MODEL])
    service = serve()
    film = clips.make(tmp_path / 'film.mkv', '-f', 'lavfi', '-i', 'smptebars=s=64x48:r=25:d=0.4',
                      *clips.EXACT).read_bytes()
    answer = service.client.post(f'{service.url}/jobs', files={'video': ('film.mkv', film)},
                                 data={'preview': '1', 'format': 'mp4'}, timeout=60)
    state = service.wait(answer)
    assert (state['state'], state['name'], state['error']) == ('done', 'film_preview.jpg', None)
    [found] = state['compared']
    assert (found['unit'], found['model']) == ('frame', MODEL)
    assert found['seconds'] == pytest.approx(found['speed'] * 10, abs=0.02)
    assert found['flicker'] == {'source': 0, 'result': 0, 'steadied': None, 'worst': []}
    assert decode(service.get(state['result']).content).ndim == 3


def test_a_model_is_loaded_once(serve, caplog):
    service = serve(models_kept=1)
    caplog.set_level('INFO', 'realesrgan')
    for model in (MODEL, MODEL, 'RealESRGAN_x4plus_anime_6B', MODEL):
        assert service.send(encode(noise(8, 8)), to='enhance', model=model).status_code == 200
    loaded = [record.getMessage() for record in caplog.records if record.getMessage().startswith('weights: ')]
    assert [line.split()[1] for line in loaded] == [MODEL, 'RealESRGAN_x4plus_anime_6B', MODEL]


@pytest.mark.parametrize(('fields', 'message'), [
    ({'model': 'http://example.com/x.pth'}, "model: unknown model 'http://example.com/x.pth': choose from RealESRGAN_"),
    ({'model': '../../weights/x.pth'}, "model: unknown model '../../weights/x.pth'"),
    ({'scale': '9'}, "scale: 9 is out of range: allowed is 0.1 to 8"), ({'scale': 'nan'}, "scale: nan is out of range"),
    ({'scale': '1e1'}, "scale: 1e1 is out of range"), ({'denoise': '2'}, "denoise: 2 is out of range: allowed is 0 to"),
    ({'face': 'maybe'}, "face: 'maybe' is neither 1 nor 0"),
    ({'format': 'exe'}, "format: 'exe' is none of auto, jpg"),
    ({'format': 'mp4'}, "format: 'mp4' is none of auto, jpg, png, webp, tiff, which pictures have"),
    ({'steady': '1'}, 'steady: pictures have none'),
    ({'model_path': '/etc/passwd'}, "unknown field 'model_path'; known are image, file, model, denoise, face, ")])
def test_fields_that_are_not_allowed(serve, fields, message):
    service = serve()
    for to in ('enhance', 'jobs'):
        response = service.send(encode(noise(8, 8)), to=to, **fields)
        assert (response.status_code, message in response.json()['error']) == (422, True), response.text
    assert service.files == []


# ---- what is no picture ----

@pytest.mark.parametrize(('data', 'message'), [*((data, UNKNOWN) for data in (
    b'', b'hello', b'#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n', b'ffconcat version 1.0\nfile /etc/passwd\n',
    b'<?xml version="1.0"?><MPD/>', b'<svg xmlns="http://www.w3.org/2000/svg"/>', b'%PDF-1.4', b'\x89PNG\r\n\x1a\n',
    b'\x00\x00\x00\x18ftypmp42' + bytes(40))),
    (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'HEIC: "pip install pillow-heif" lets it be read'),
    (b'FUJIFILMCCD-RAW 0201', "a camera's raw file: develop it first, to png or tiff")])
def test_what_is_neither_picture_nor_video(serve, monkeypatch, data, message):
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    service = serve()
    response = service.send(data, 'a.mp4', field='video')
    assert response.status_code == 415
    assert response.json()['error'].startswith(message)
    assert service.files == []


def test_a_damaged_picture_fails_in_words(serve):
    service = serve()
    data = encode(noise(40, 40))[:-400]
    response = service.send(data, to='enhance')
    assert response.status_code == 422
    answer = {'error': "This picture is damaged, or of a kind that can't be read or written.", 'code': 'image',
              'values': {}}
    assert response.json() == answer
    state = service.wait(service.send(data))
    assert (state['state'], state['result']) == ('failed', None)
    assert {key: state[key] for key in answer} == answer
    assert service.get(f'{state["url"]}/result').status_code == 422


@pytest.mark.parametrize(('error', 'status', 'code'), [
    (errors.ImageError('{path}: damaged'), 422, 'image'), (errors.MediaError('ffmpeg: {path}: bad'), 422, 'video'),
    (errors.PartsError('{path}: in use'), 500, 'unknown'), (errors.DownloadError('put it at {path}'), 503, 'weights'),
    (errors.NoSuchDeviceError('no GPU 3'), 503, 'device'), (errors.KernelError('{path}: no kernel'), 503, 'device'),
    (errors.FacePackagesError('pip install gfpgan'), 503, 'faces'), (errors.WorkerError('was killed'), 500, 'worker'),
    (errors.MediaWriteError('{path}'), 503, 'disk'), (OSError(28, 'No space left', '{path}'), 503, 'disk'),
    (PermissionError(13, 'Permission denied', '{path}'), 500, 'unknown'), (MemoryError(), 503, 'memory'),
    (errors.explain(KeyError('{path}')), 500, 'unknown'), (None, 500, 'unknown'),
    (errors.UsageError('{path}: is a picture'), 422, 'usage')])
def test_errors_have_a_sentence_and_no_path_of_this_machine(tmp_path, error, status, code):
    if error is not None:
        error.args = tuple(each.replace('{path}', str(tmp_path / 'a.png')) if isinstance(each, str) else each
                           for each in error.args)
    answer = describe(error)
    assert (find_row(error), answer['code'], answer['values']) == ((status, code), code, {})
    assert str(tmp_path) not in answer['error']
    assert all(len(STRINGS[language][f'error_{code}']) > 10 for language in ('en', 'ko'))


@pytest.mark.parametrize(('text', 'shown'), [
    ('/home/me/a b.png: gone', 'a b.png: gone'), ("can't read '/srv/x/y.pth'", "can't read 'y.pth'"),
    ('https://example.com/a/b.pth is 3/4 there', 'https://example.com/a/b.pth is 3/4 there'),
    ('C:\\Users\\me\\a.png is bad', 'a.png is bad')])
def test_paths_are_hidden(text, shown):
    assert hide_paths(text) == shown
    for folder in (Path.home(), Path.cwd(), Path(web.__file__).parents[2]):
        assert hide_paths(f'see {folder / "weights" / "a b.pth"}') == 'see weights/a b.pth'


def test_paths_are_hidden_from_those_without_a_home_too(monkeypatch):
    monkeypatch.delenv('HOME')
    monkeypatch.setattr('pwd.getpwuid', {}.__getitem__)  # it knows no such user
    assert hide_paths('/srv/a.png: gone') == 'a.png: gone'


# ---- jobs ----

def test_the_life_of_a_job(serve, expected):
    service = serve()
    data = encode(noise(12, 10))
    default = service.send(data, model='')  # the model of the guide
    assert default.json()['model'] == 'RealESRGAN_x4plus'
    answer = service.send(data, 'photo of mine.png')
    job = answer.json()
    assert answer.headers['Location'] == job['url'] == f'/jobs/{job["id"]}'
    assert len(job['id']) >= 24
    state = service.wait(answer)
    assert {key: state[key] for key in ('state', 'position', 'done', 'total', 'model', 'error', 'warnings', 'size',
                                        'result_size', 'name')} == {
        'state': 'done', 'position': 0, 'done': 1, 'total': 1, 'model': MODEL, 'error': None, 'warnings': [],
        'size': [10, 12], 'result_size': [40, 48], 'name': 'photo of mine_out.png'}
    for _ in range(2):
        assert service.get(state['result']).content == expected(data)
    for each in (answer, default):
        service.remove(each)
    for path in (state['url'], state['result']):
        assert service.get(path).status_code == 404
    assert service.files == []


def test_a_video_is_a_job(serve, tmp_path):
    service = serve()
    film = clips.make(tmp_path / 'film.mkv', *clips.numbered(seconds='0.4'), *clips.sound('0.4'), *clips.EXACT)
    sound = clips.make(tmp_path / 'a.mp4', *clips.sound())
    for file, message in ((film, 'this is a video; POST /jobs takes those'), (sound, 'this file has no video')):
        refused = service.send(file.read_bytes(), file.name, to='enhance')
        assert (refused.status_code, refused.json()['error']) == (415, message)
    state = service.wait(service.send(film.read_bytes(), 'film.mkv', field='video', scale='1', format='mkv', model=''))
    assert (state['state'], state['done'], state['total'], state['name'], state['model']) == (
        'done', 10, 10, 'film_out.mkv', MODEL)
    (tmp_path / 'result.mkv').write_bytes(service.get(state['result']).content)
    assert clips.video(tmp_path / 'result.mkv')['frames'] == 10
    assert len(clips.streams(tmp_path / 'result.mkv', 'audio')) == 1


# ---- files that several jobs may take ----

def keep(service, data, name='picture.png'):
    answer = service.client.post(f'{service.url}/files', files={'image': (name, data)}, timeout=60)
    assert answer.status_code == 201, answer.text
    assert answer.headers['Location'] == answer.json()['url']
    return answer.json()


def start(service, file, **fields):
    return service.client.post(f'{service.url}/jobs', data={'file': file['id'], 'model': MODEL} | fields, timeout=60)


def test_a_file_is_sent_once_for_several_jobs(serve, expected):
    service, data = serve(), encode(noise(12, 10))
    file = keep(service, data, 'my photo.png')
    assert {key: file[key] for key in ('kind', 'size', 'frames', 'formats')} == {
        'kind': 'picture', 'size': [10, 12], 'frames': 1, 'formats': ['auto', 'jpg', 'png', 'webp', 'tiff']}
    assert sum(service.queue.count_states().values()) == 0  # nothing runs before it is asked for
    first, second = (service.wait(start(service, file, scale=scale)) for scale in ('4', '2'))
    assert (first['result_size'], second['result_size'], second['name']) == ([40, 48], [20, 24], 'my photo_out.png')
    assert service.get(first['result']).content == expected(data)
    assert service.get(file['content']).content == data
    service.client.delete(f'{service.url}{file["url"]}')
    for answer in (service.get(file['url']), start(service, file)):
        assert (answer.status_code, answer.json()['error']) == (404, 'there is no such file, or it has been removed')
    assert service.get(first['result']).status_code == 200
    for state in (first, second):
        service.client.delete(f'{service.url}{state["url"]}')
    assert service.files == []


@pytest.mark.parametrize(('fields', 'size'), [
    ({}, [40, 48]), ({'scale': '1.5'}, [15, 18]), ({'width': '30'}, [30, 36]), ({'fit': '100x24'}, [20, 24])])
def test_the_size_and_the_time_of_a_result_are_estimated(serve, fields, size):
    service = serve()
    file = keep(service, encode(noise(12, 10)))
    found = service.get(file['url'], params=fields | {'model': MODEL}).json()
    assert (found['result_size'], found['url']) == (size, file['url'])
    start(service, file, **fields)
    slower, faster = (service.get(file['url'], params={'model': model}).json()['seconds'] for model in (
        'RealESRGAN_x4plus', MODEL))
    assert slower is None or slower >= faster  # nothing is known of a GPU at first
    for wrong, status, code in (({'scale': 'x'}, 422, 'field'), ({'width': '10', 'height': '9'}, 422, 'usage'),
                                ({'width': '1000000'}, 413, 'result_pixels'), ({'format': 'mp4'}, 422, 'field')):
        answer = service.get(file['url'], params=wrong)
        assert (answer.status_code, answer.json()['code']) == (status, code)


def test_the_time_is_estimated_by_earlier_jobs(serve, monkeypatch):
    monkeypatch.setattr('realesrgan.web.jobs.may_have_torch_gpus', lambda: True)
    queue = serve(fresh=True).queue
    media = uploads.Media('video', uploads.Size(1000, 500), 10)
    options = {model: PictureOptions(model_name=model) for model in (MODEL, 'RealESRGAN_x4plus')}
    assert queue.estimate(options[MODEL], media) is None
    done = Outcome('a.png', frames=1, seconds=1.9, size=(1000, 500))
    job = SimpleNamespace(preview=None, outcome=done, state='done', options=options[MODEL])
    queue._learn_speed(job)
    assert queue.estimate(options[MODEL], media) is None  # it ended too soon to tell
    job.outcome = done._replace(frames=10, seconds=10.0)
    queue._learn_speed(job)
    assert queue.estimate(options[MODEL], media) == pytest.approx(0.5 * 10 * 2)
    assert 20 < queue.estimate(options['RealESRGAN_x4plus'], media) / 10 < 40  # so many more products a pixel
    assert queue.estimate(options[MODEL], uploads.Media('animation', uploads.Size(9, 9), None)) is None


def test_files_that_nobody_needs_are_removed_and_are_not_kept_without_limit(serve, short_waits):
    service, data = serve(max_age=0.1, max_bytes=1000, queue=1), encode(noise(15, 15))  # room for two of 700 bytes
    files = [keep(service, data) for _ in range(2)]
    answer = service.client.post(f'{service.url}/files', files={'image': data}, timeout=60)
    assert (answer.status_code, answer.json()['code'], 'Retry-After' in answer.headers) == (507, 'full', False)
    wait_until(lambda: service.files == [])
    assert [service.get(file['url']).status_code for file in files] == [404, 404]


@pytest.mark.parametrize('use', ['', '/content'])
def test_the_age_of_a_file_counts_from_its_last_use(serve, use):
    service = serve()
    file = keep(service, encode(noise(8, 8)))
    [upload] = service.queue._uploads.values()
    upload.used = before = upload.used - 1000
    assert service.get(file['url'] + use).status_code == 200
    assert upload.used > before + 999


def test_a_disk_that_is_full_is_said(serve, monkeypatch, caplog):
    service = serve()

    def fail(*_):
        raise OSError(28, 'No space left on device', '/somewhere')
    monkeypatch.setattr(uploads, 'measure', fail)
    answer = service.send(encode(noise(8, 8)))
    assert (answer.status_code, answer.json()['error']) == (503, 'The disk of the service is full.')
    assert 'No space left on device' in caplog.text
    assert service.files == []


def test_a_file_that_is_removed_stays_for_the_job_that_needs_it(serve, expected):
    service = serve()
    slow, data = Slow(service), encode(noise(12, 10))
    file = keep(service, data)
    waiting = start(service, file)
    service.client.delete(f'{service.url}{file["url"]}')
    service.remove(slow.answer)
    state = service.wait(waiting)
    assert service.get(state['result']).content == expected(data)
    assert [name for name in service.files if 'input.png' in name] == []


def test_an_animation_is_upscaled_whole(serve, tmp_path):
    frames = [Image.fromarray(noise(8, 12, seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / 'a.gif', save_all=True, append_images=frames[1:], duration=[40, 80, 120], loop=0)
    service, data = serve(), (tmp_path / 'a.gif').read_bytes()
    file = keep(service, data, 'a.gif')
    assert (file['kind'], file['size'], file['formats'][:4]) == ('animation', [12, 8], ['auto', 'gif', 'apng', 'webp'])
    state = service.wait(start(service, file, scale='2'))
    assert (state['name'], state['result_size'], state['total']) == ('a_out.gif', [24, 16], 3)
    (tmp_path / 'b.gif').write_bytes(service.get(state['result']).content)
    with Image.open(tmp_path / 'b.gif') as image:
        assert (image.n_frames, image.size) == (3, (24, 16))
    state = service.wait(start(service, file, scale='2', format='jpg'))  # of the first frame
    assert (state['name'], state['result_size']) == ('a_out.jpg', [24, 16])
    assert service.send(data, 'a.gif', to='enhance', format='png').status_code == 200


class Slow:
    """Holds up the first job until it is let go, by a picture of very many tiles."""

    def __init__(self, service):
        self.answer = service.send(encode(noise(600, 600)), 'slow.png', model='RealESRGAN_x4plus')
        assert self.answer.status_code == 202
        self.job = service.queue.get(self.answer.json()['id'])
        wait_until(lambda: self.job.state != 'queued')


def test_a_full_queue_is_told_with_the_time_to_come_back(serve):
    service = serve(queue=1)
    Slow(service)
    waiting = service.send(encode(noise(8, 8)))
    assert waiting.status_code == 202
    assert service.get(waiting.json()['url']).json()['position'] == 1
    for to in ('jobs', 'enhance'):
        refused = service.send(encode(noise(8, 8)), to=to)
        seconds = int(refused.headers['Retry-After'])
        assert (refused.status_code, seconds >= 1) == (429, True)
        assert refused.json()['error'] == f'the service is busy; try again in {seconds} seconds'
    service.remove(waiting)
    assert service.send(encode(noise(8, 8))).status_code == 202


def test_a_running_job_ends_when_it_is_removed_or_takes_too_long(serve):
    service = serve()
    slow = Slow(service)
    service.remove(slow.answer)
    assert slow.job.ended.wait(20)
    assert slow.job.state == 'cancelled'
    assert service.wait(service.send(encode(noise(8, 8))))['state'] == 'done'
    service = serve(max_job_seconds=0.5)
    state = service.wait(Slow(service).answer)
    assert (state['state'], state['error']) == ('failed', 'it took longer than 0.5 seconds')
    assert service.get(f'{state["url"]}/result').status_code == 503


def test_jobs_of_clients_that_have_gone_and_old_results_are_removed(serve, short_waits):
    service = serve(max_age=0.1)
    with pytest.raises(requests.Timeout):
        requests.post(f'{service.url}/enhance', files={'image': encode(noise(600, 600))}, timeout=1.5)
    wait_until(lambda: not service.queue.count_states()['running'])
    job = service.queue.get(service.send(encode(noise(8, 8))).json()['id'])
    assert job.ended.wait(60)
    wait_until(lambda: service.get(f'/jobs/{job.identity}').status_code == 404)
    assert sum(service.queue.count_states().values()) == 0
    assert service.files == []


def test_a_client_that_has_gone_leaves_the_queue(serve):
    service = serve()
    slow = Slow(service)
    with pytest.raises(requests.Timeout):
        requests.post(f'{service.url}/enhance', files={'image': encode(noise(8, 8))}, timeout=1)
    wait_until(lambda: not service.queue.count_states()['queued'])
    assert slow.job.state == 'running'


def kill_workers():
    """Kill the workers of this process; return whether there was one."""
    killed = False
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # one that has just ended
            if 'spawn_main' in ' '.join(child.cmdline()):
                child.kill()
                killed = True
    return killed


def test_a_killed_worker_costs_the_job_only_if_all_are_killed(serve, expected):
    service, data = serve(fresh=True), encode(noise(300, 300))  # whose worker is killed while it starts
    stop = threading.Event()

    def kill():
        while not stop.wait(0.02):
            kill_workers()
    killer = threading.Thread(target=kill)
    killer.start()
    state = service.wait(service.send(data))
    stop.set()
    killer.join()
    assert state['state'] == 'failed'
    assert state['code'] == 'device'
    answer = service.send(data)
    wait_until(kill_workers)
    state = service.wait(answer)
    assert state['state'] == 'done'
    assert any('was killed' in line for line in state['warnings']) or state['warnings'] == []
    assert service.get(state['result']).content == expected(data)


def test_a_bug_fails_its_job_in_words_and_the_service_goes_on(serve, tmp_path, monkeypatch, caplog):
    """At each step, of pictures and of videos, in one worker."""
    pictures, videos = (dict(zip(steps, widths, strict=True)) for steps, widths in (
        (PICTURE_STEPS, (7, 8, 9)), (VIDEO_STEPS, broken_steps.VIDEO_WIDTHS)))
    monkeypatch.setattr('realesrgan.web.jobs.JobWorker',
                        partial(broken_steps.build_job_worker, pictures=pictures, videos=videos))
    caplog.set_level('DEBUG', 'realesrgan')
    service = serve(fresh=True)
    names = broken_steps.make_videos(tmp_path)
    files = [(encode(noise(8, width)), 'a.png', PICTURE_STEPS[step]) for step, width in pictures.items()] + [
        ((tmp_path / name).read_bytes(), name, error) for name, error in zip(names, VIDEO_STEPS.values(), strict=True)]
    answers = [service.send(data, name, scale='1' if name != 'a.png' else '4') for data, name, _ in files]
    for answer, (_, _, error) in zip(answers, files, strict=True):
        state = service.wait(answer)
        assert (state['state'], state['result']) == ('failed', None)
        assert state['error'] == "Something went wrong; the service's log says what."
        assert service.get(f'{state["url"]}/result').status_code == 500
        told = [record for record in caplog.records if f'job {state["id"]}' in record.getMessage()]
        assert [record.levelname for record in told] == ['ERROR', 'DEBUG']  # the traceback is for -v
        assert told[0].getMessage().endswith(f'{type(error).__name__}: {error}: {broken_steps.REPORT}')
        assert 'in fail_at' in logging.Formatter().format(told[1])
    assert service.send(encode(noise(8, 7)), to='enhance').json()['code'] == 'unknown'
    assert service.wait(service.send(encode(noise(8, 10))))['state'] == 'done'


# ---- about the service ----

def test_health_models_and_metrics(serve):
    service = serve(fresh=True)
    assert service.get('/healthz').json() == {
        'status': 'ok', 'jobs': {'queued': 0, 'running': 0},
        'limits': {'bytes': 250_000_000, 'pixels': 25_000_000, 'seconds': 60, 'scale': 8}}
    models = {model['name']: model for model in service.get('/models').json()}
    assert models['realesr-general-x4v3'] == {'name': 'realesr-general-x4v3', 'scale': 4, 'drawings': False,
                                              'denoise': True, 'installed': models['realesr-general-x4v3']['installed']}
    assert models[MODEL]['installed'] is True
    assert len(models) == 6
    service.wait(service.send(encode(noise(100, 50))))
    assert service.client.request('WORD', f'{service.url}/healthz').status_code == 405
    figures = service.get('/metrics').text.splitlines()
    assert {'realesrgan_jobs_ended_total{state="done"} 1.0', 'realesrgan_jobs{state="done"} 1.0',
            'realesrgan_megapixels_total 0.005', 'realesrgan_job_seconds_count 1.0',
            'realesrgan_requests_total{method="POST",route="submit",status="202"} 1.0',
            'realesrgan_requests_total{method="none",route="none",status="405"} 1.0',
            'realesrgan_memory_bytes{kind="gpu_allocated",worker="0"} 0.0',
            'realesrgan_memory_bytes{kind="gpu_reserved",worker="0"} 0.0'} <= set(figures)
    values = dict(line.rsplit(maxsplit=1) for line in figures)
    assert float(values['realesrgan_memory_bytes{kind="host",worker="0"}']) > 1 << 20
    assert 0 < float(values['realesrgan_system_memory_used_ratio']) <= 1


@pytest.mark.parametrize(('name', 'cleaned'), [
    ('photo.jpg', 'photo'), ('../../etc/passwd', 'passwd'), ('C:\\temp\\a b.png', 'a b'), ('', 'picture'),
    (None, 'picture'), ('.png', 'png'), ('\ud55c\uad6d\uc5b4 (1).webp', '\ud55c\uad6d\uc5b4 (1)'),
    ('a\r\nSet-Cookie: x.png', 'a_Set-Cookie_ x'), ('x' * 300 + '.png', 'x' * 80), ('a"b;c.png', 'a_b_c')])
def test_names_of_downloads(name, cleaned):
    assert uploads.clean_name(name) == cleaned


# ---- the command ----

def test_the_command_needs_no_packages_for_help_and_a_token_for_others(run_script):
    status, out, _ = run_script(web, '--help')
    assert (status, '--max_upload_seconds SECONDS' in out, '(default: 127.0.0.1)' in out) == (0, True, True)
    status, _, err = run_script(web, '--host', '0.0.0.0')
    assert (status, err) == (2, 'error: --host 0.0.0.0 can be reached by others: set --token, or --no_auth if '
                                'everybody may use this service\n')


@pytest.mark.parametrize('package', ['flask', 'waitress', 'prometheus_client'])
def test_without_its_packages_it_is_one_line(run_script, monkeypatch, package):
    for name in list(sys.modules):
        if name.split('.')[0] == package or name.startswith('realesrgan.web.'):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    status, _, err = run_script(web)
    assert status == 1
    assert err.startswith('error: the service needs ')
    assert err.endswith(': pip install flask waitress prometheus_client\n')


def test_a_port_that_is_taken_is_one_line(run_script, serve, tmp_path):
    port = serve().url.rpartition(':')[2]
    status, _, err = run_script(web, '--port', port, '--folder', tmp_path / 'own')
    assert (status, len(err.splitlines())) == (1, 1)
    assert 'in use' in err
    assert list((tmp_path / 'own').iterdir()) == []


def test_the_folder_may_be_named_from_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = encode(noise(8, 6))
    with (open_folder('here') as folder, run_service(Settings(port=0), folder) as (port, _),
          requests.Session() as client):
        client.trust_env, url = False, f'http://127.0.0.1:{port}'
        kept = client.post(f'{url}/files', files={'image': ('a.png', data)}, timeout=60).json()
        assert client.get(url + kept['content'], timeout=60).content == data
    assert list((tmp_path / 'here').iterdir()) == []


# ---- examples ----

needs_curl = pytest.mark.skipif(shutil.which('curl') is None or shutil.which('bash') is None,
                                reason='there is no curl or no bash')


@pytest.fixture(params=['web_client.sh', 'web_client.py'])
def run_client(request, tmp_path):
    """Start a client of the examples in the current folder of the test, with a file and a service."""
    program = Path(__file__).parents[2] / 'examples' / request.param

    def start(file, service, token=''):
        command = ['bash', program, file, service.url, f'model={MODEL}'] if request.param.endswith('.sh') else [
            sys.executable, program, file, '--url', service.url, '--model', MODEL, '--token', token]
        return subprocess.Popen(command, cwd=tmp_path, env=os.environ | {'TOKEN': token}, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return start


@needs_curl
def test_the_clients_of_the_examples(serve, expected, tmp_path, run_client):
    service = serve(token='secret')
    data = encode(noise(12, 10))
    (tmp_path / 'picture.png').write_bytes(data)
    (tmp_path / 'broken.png').write_bytes(data[:60])
    with run_client('picture.png', service, 'secret') as done, run_client('broken.png', service, 'secret') as failed:
        out, err = done.communicate()
        assert (done.returncode, out.split()[-1]) == (0, 'picture_out.png'), err
        _, err = failed.communicate()
        assert (failed.returncode, 'damaged' in err or 'no picture' in err) == (1, True)
    assert (tmp_path / 'picture_out.png').read_bytes() == expected(data)
    assert sum(service.queue.count_states().values()) <= 1


@needs_curl
def test_the_clients_of_the_examples_wait_for_a_full_queue(serve, short_waits, expected, tmp_path, run_client):
    service = serve(queue=1)
    slow = Slow(service)
    waiting = service.send(encode(noise(8, 8)))
    data = encode(noise(12, 10))
    (tmp_path / 'picture.png').write_bytes(data)
    with run_client('picture.png', service) as process:
        wait_until(lambda: 'route="submit",status="429"' in service.get('/metrics').text or process.poll() is not None)
        for answer in (slow.answer, waiting):
            service.remove(answer)
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert (tmp_path / 'picture_out.png').read_bytes() == expected(data)


def test_a_short_load(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / 'benchmarks'))
    import web_load
    seen = web_load.load(clients=8, queue=2, seconds=1)
    assert seen['right'] >= 3
    assert set(seen) - {'429'} == {'clients', 'queue', 'seconds', 'right', 'MiB after warm-up', 'MiB in the end',
                                   'change', 'files left', 'left after the end'}
    assert (seen['files left'], seen['left after the end']) == (0, 0)
