"""--report and --compare of both scripts: what is in the files."""
from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan import RealESRGANer
from realesrgan.events import Examined, Found, Outcome, Preview, Quality
from realesrgan.quality.comparisons import convert_to_bgr8, enlarge
from realesrgan.reports import reporter
from realesrgan.reports.reporter import Reporter
from tests.support import clips
from tests.support.clips import files
from tests.support.made_pictures import write_noise as write


@pytest.fixture(scope='session')
def network(tmp_path_factory):
    return clips.save_network(tmp_path_factory.mktemp('networks') / 'tiny.pth')


@pytest.fixture
def run(run_script, network):
    """Run a script with a small network; by default that of pictures."""
    return lambda *arguments, script=inference_realesrgan: run_script(script, '--model_path', network, '--fp32',
                                                                      *arguments)


def load(path='r.json'):
    return json.loads(Path(path).read_text())


class Page(HTMLParser):
    """The elements of a page, its rows of text, and everything that it would load."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.loads, self.links, self.titles, self.text = [], [], [], [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        (self.links if tag == 'a' else self.loads).extend(filter(None, map(values.get, ('src', 'href'))))
        self.titles += filter(None, [values.get('title')])

    def handle_data(self, data):
        self.text.append(data.strip())


# ---- pictures ----

def test_the_figures_of_pictures(run, tmp_path):
    write(tmp_path / 'in/a.png', 40, 30, 3)
    write(tmp_path / 'in/b.png', 16, 16)
    (tmp_path / 'in/broken.png').write_bytes(b'\x89PNG\r\n\x1a\n')
    (tmp_path / 'new').mkdir()
    assert run('-i', 'in', '-t', '20', '--engine', 'torch', '--report', 'new/r.json')[0] == 1
    report = load('new/r.json')
    assert (report['title'], report['version']) == ('tiny', '2.0.0')
    assert report['command'].endswith(' -i in -t 20 --engine torch --report new/r.json')
    a, b, broken = (next(file for file in report['files'] if file['source'] == f'in/{name}.png')
                    for name in ('a', 'b', 'broken'))
    assert {**a, 'samples': None} == {
        'source': 'in/a.png', 'target': 'results/a_out.png', 'comparison': None, 'status': 'done', 'error': None,
        'problems': [], 'warnings': a['samples'][0]['findings'], 'size': [30, 40], 'result_size': [120, 160],
        'scale': 4, 'frames': 1, 'reused': 0, 'seconds': a['seconds'], 'rate': a['rate'], 'unit': 'megapixels/s',
        'model': 'tiny', 'engine': 'torch', 'device': 'cpu', 'precision': 'float32', 'tiles': 4, 'stages': a['stages'],
        'host_bytes': a['host_bytes'], 'gpu_bytes': 0, 'flicker': None, 'verdict': a['verdict'],
        'samples': None}
    assert re.fullmatch(r'good|(look|bad) \(.+\)', a['verdict'])
    assert [bool(file['samples'][0]['findings']) for file in (a, b)] == [
        file['verdict'] != 'good' for file in (a, b)]
    assert broken['verdict'] is None
    slowest, fastest = (40 * 30 / 1e6 / (a['stages']['network'] + rounding) for rounding in (0.0006, -0.0006))
    assert slowest <= a['rate'] <= fastest
    assert a['seconds'] == pytest.approx(sum(a['stages'].values()), abs=0.003)
    assert list(a['stages']) == ['load', 'read', 'network', 'write', 'check']  # it was the first
    assert list(b['stages']) == ['read', 'network', 'write', 'check']
    assert 50 << 20 < a['host_bytes'] < 100 << 30
    assert (b['size'], b['tiles'], b['samples'][0]['tile_step']) == ([16, 16], 1, None)
    assert [broken[name] for name in ('status', 'target', 'samples', 'stages', 'model', 'scale', 'unit')] == [
        'failed', None, [], None, None, None, None]
    assert 'damaged' in broken['error'] or 'PNG' in broken['error']
    result = cv2.imread('results/a_out.png')
    shrunk = cv2.resize(result, (30, 40), interpolation=cv2.INTER_AREA)
    error = np.square(cv2.imread('in/a.png').astype(float) - shrunk).mean()
    assert a['samples'][0]['psnr'] == pytest.approx(10 * np.log10(255 ** 2 / error))


def test_what_looks_wrong_is_a_line_on_stderr_and_in_the_report(run, tmp_path, monkeypatch):
    write(tmp_path / 'a.png', 40, 40, 3)
    monkeypatch.setattr(RealESRGANer, 'enhance', lambda self, img, *_, **__: (np.zeros((160, 160, 3), np.uint8), 'RGB'))
    status, _, err = run('-i', 'a.png', '--report', 'r.html')
    assert status == 0
    assert 'warning: a.png: 100.0% of it is black where the input is not\n' in err
    page = Page(tmp_path / 'r.html')
    assert '100.0% of it is black where the input is not' in page.text
    assert any(line.startswith('bad (black') for line in page.text)
    assert page.tags.count('rect') > 9  # the map


def test_every_result_is_checked_unless_that_is_turned_off(run, tmp_path, monkeypatch):
    write(tmp_path / 'a.png', 40, 40, 3)
    write(tmp_path / 'b.png', 41, 41, 3)
    black = np.zeros((160, 160, 3), np.uint8)
    monkeypatch.setattr(RealESRGANer, 'enhance', lambda self, img, *_, **__: (
        black if len(img) == 40 else np.repeat(np.repeat(img, 4, 0), 4, 1), 'RGB'))
    status, out, err = run('-i', 'a.png', 'b.png')
    assert status == 0  # only a person can tell
    assert re.search(r'warning: a\.png: \d+\.\d% of it is black where the input is not\n', err)
    assert 'a.png -> results/a_out.png: bad (black' in err
    assert 'b.png -> results/b_out.png: good\n' in err
    assert out.startswith('2 done, 0 failed, 1 bad, ')
    status, out, err = run('-i', 'a.png', '--no_check', '--report', 'r.json')
    assert (status, 'warning' in err, err.endswith('a.png -> results/a_out.png\n')) == (0, False, True)
    assert (load()['files'][0]['samples'], load()['files'][0]['verdict']) == ([], None)


def test_the_page_needs_nothing_beside_it(run, tmp_path):
    write(tmp_path / 'in/a.png', 40, 30, 3)
    write(tmp_path / 'in/<b>&"c".png', 16, 16, 4)
    write(tmp_path / 'in/x/a.png', 16, 16)
    assert run('-i', 'in', 'missing.png', '-r', '--compare', '--report', 'r.html')[0] == 1
    page = Page(tmp_path / 'r.html')
    assert [text for text in page.text if re.fullmatch(r'tiny, 4x: 4 files, \d{4}-\d\d-\d\d \d\d:\d\d', text)]
    assert sorted(page.links) == sorted(
        f'results/{stem}_out{kind}' for stem, own in (('a', '.png'), ('%3Cb%3E%26%22c%22', '.png'), ('x/a', '.png'))
        for kind in (own, '_compare.jpg'))
    assert {'in/a.png', 'in/x/a.png', '<b>&"c".png'} <= set(page.text)  # two are of one name
    assert str(tmp_path / 'in/<b>&"c".png') in page.titles
    assert all(link.startswith('data:image/jpeg;base64,') for link in page.loads)
    assert len(page.loads) == 3 * 3 + page.tags.count('image')  # of maps
    assert 'link' not in page.tags
    assert 'b' in page.tags  # ours
    assert page.tags.count('tr') == 1 + 4
    assert ': no such file or folder' in page.text
    assert 'http' not in re.sub(r'xmlns="[^"]*"', '', (tmp_path / 'r.html').read_text())


def test_names_that_are_no_text_are_linked_too(tmp_path):
    with Reporter(tmp_path / 'r.html', 'a model', lambda event: None) as report:
        report(Outcome('x\udcff.png', tmp_path / 'x\udcff_out.png', frames=1, megapixels=1))
    page = Page(tmp_path / 'r.html')
    assert page.titles == ['x\\udcff.png', 'x\\udcff_out.png']
    assert page.links in (['x%FF_out.png'], ['x%ED%B3%BF_out.png'])  # the latter on Windows


@pytest.mark.parametrize('name', ['r', 'r.txt', 'json', ''])
def test_a_report_of_another_kind_is_a_usage_error(run, name):
    status, _, err = run('--report', name)
    assert status == 2
    assert f"argument --report: '{name}' must end in .json or .html" in err


def test_a_report_that_can_not_be_written_ends_the_run_before_it_begins(run, tmp_path):
    write(tmp_path / 'a.png', 8, 8, 3)
    assert run('-i', 'a.png', '--report', 'a.png/r.json')[::2] == (1, 'error: a.png: Not a directory\n')
    (tmp_path / 'r.json').mkdir()
    assert run('-i', 'a.png', '--report', 'r.json')[::2] == (1, 'error: r.json: Is a directory\n')
    assert run('-i', 'a.png', '--report', 'nosuch/r.json')[::2] == (
        2, 'error: --report nosuch/r.json: there is no folder nosuch\n')
    assert files(tmp_path) == ['a.png']


def test_a_report_may_go_into_the_folder_of_the_results(run, tmp_path):
    write(tmp_path / 'a.png', 8, 8, 3)
    assert run('-i', 'a.png', '--report', 'results/r.json')[0] == 0
    assert files(tmp_path / 'results') == ['a_out.png', 'r.json']


def test_a_run_that_ends_early_reports_what_was_done(run, tmp_path, at_calls):
    for index in range(3):
        write(tmp_path / f'in/{index}.png', 8, 8 + index, 3)
    at_calls([3], KeyboardInterrupt())
    assert run('-i', 'in', '--report', 'r.json')[0] == 130
    done = {file['source'] for file in load()['files']}  # the second may not have been written
    assert {'in/0.png'} <= done <= {'in/0.png', 'in/1.png'}
    assert {f'results/{name}' for name in files(tmp_path / 'results')} == {
        file['target'] for file in load()['files']}


def test_skipped_files_are_in_the_report(run, tmp_path):
    write(tmp_path / 'a.png', 8, 8, 3)
    for _ in range(2):
        assert run('-i', 'a.png', '--skip_existing', '--report', 'r.json')[0] == 0
    assert [(file['status'], file['rate']) for file in load()['files']] == [('skipped', None)]


def test_pictures_are_kept_of_some_files_only(monkeypatch, tmp_path):
    monkeypatch.setattr(reporter, 'MOST_PREVIEWS', 2)
    heard = []
    quality = dict.fromkeys(('psnr', 'likeness', 'clipped', 'not_finite', 'constant', 'black'), 1.0) | {
        'tile_step': None, 'colour_shift': (0, 0, 0)}
    with Reporter(tmp_path / 'r.html', 'a model', heard.append) as report:
        report(Found(4))
        for name in 'abcd':
            report(Examined(name, Quality(**quality), Preview(b'1', b'2', b'3')))
            report(Outcome(name, frames=1, megapixels=1))
    assert len(heard) == 9
    assert len(Page(tmp_path / 'r.html').loads) == 3 * 2
    assert [len(file['samples']) for file in report.describe()['files']] == [1] * 4


def test_several_workers_report_as_one_does(run, tmp_path, monkeypatch):
    for index in range(6):
        write(tmp_path / f'in/{index}.png', 8, 8 + index, 3)
    assert run('-i', 'in', '--report', 'one.json', '--compare')[0] == 0
    from realesrgan.pictures import run as pictures
    monkeypatch.setattr('realesrgan.engines.choice.require_gpu', lambda gpu_id, engine: None)
    from realesrgan.pool.pool import Place
    monkeypatch.setattr(pictures, 'list_places', lambda *more: [Place(), Place()])
    assert run('-i', 'in', '--report', 'two.json', '--compare', '-o', 'two')[0] == 0

    def figures(path):
        return {file['source']: (file['result_size'], file['samples'], file['comparison'].split('/')[1])
                for file in load(path)['files']}
    assert figures('two.json') == figures('one.json')
    assert len(figures('one.json')) == 6


# ---- comparisons of pictures ----

def test_a_comparison_lies_beside_each_result_and_is_no_input_later(run, tmp_path):
    write(tmp_path / 'a.png', 20, 30, 3)
    for _ in range(2):
        assert run('-i', '.', '-o', '.', '--compare')[0] == 0
    assert files(tmp_path) == ['a.png', 'a_out.png', 'a_out_compare.jpg']
    shown = cv2.imread('a_out_compare.jpg')
    assert shown.shape == (80 + 8 + 120, 2 * 120 + 8, 3)
    ours, expected = (cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(int) for picture in (
        shown[40:80, 128:], cv2.imread('a_out.png')[40:]))  # JPEG halves the resolution of colours
    assert np.abs(ours - expected).mean() < 6


def test_a_comparison_never_overwrites_an_input(run, tmp_path):
    write(tmp_path / 'in/a.png', 20, 30, 3)
    write(tmp_path / 'in/a_out_compare.jpg', 8, 8, 3)
    before = (tmp_path / 'in/a_out_compare.jpg').read_bytes()
    status, _, err = run('-i', 'in/a.png', 'in/a_out_compare.jpg', '-o', 'in', '--compare')
    assert status == 1
    assert ('error: in/a.png: no comparison: it would overwrite the input in/a_out_compare.jpg; choose another '
            '--suffix or -o\n') in err
    assert (tmp_path / 'in/a_out_compare.jpg').read_bytes() == before
    assert cv2.imread(str(tmp_path / 'in/a_out.png')).shape == (80, 120, 3)


def test_comparisons_need_a_folder(run, tmp_path):
    write(tmp_path / 'a.png', 8, 8, 3)
    status, _, err = run('-i', 'a.png', '-o', '-', '--compare')
    assert (status, err) == (2, 'error: --compare writes pictures beside the results, which -o - does not put into a '
                                'folder\n')


# ---- videos ----

@pytest.mark.parametrize('workers', ['1', '2'])
def test_the_figures_and_the_clip_of_a_video(run, tmp_path, workers):
    clips.make(tmp_path / 'a.mp4', *clips.numbered('24'), *clips.EXACT)
    status, _, _ = run('-i', 'a.mp4', '--report', 'r.json', '--compare', '--chunk', '0.25', '--num_process_per_gpu',
                       workers, '--crf', '0', script=inference_realesrgan_video)
    assert status == 0
    [file] = load()['files']
    assert sorted(sample['frame'] for sample in file['samples']) == sorted(
        {round(2 * number + 0.5) for number in range(12)})
    assert {key: file[key] for key in ('size', 'result_size', 'frames', 'reused', 'unit', 'tiles', 'comparison')} == {
        'size': [64, 48], 'result_size': [256, 192], 'frames': 24, 'reused': 0, 'unit': 'frames/s', 'tiles': 1,
        'comparison': 'results/a_out_compare.mp4'}
    assert file['rate'] == pytest.approx(24 / file['seconds'], rel=0.01)
    assert list(file['stages']) == ['load', 'read', 'network', 'write', 'check']
    assert all(seconds > 0 for seconds in file['stages'].values())
    assert file['model'] == 'tiny'
    # The third part holds the middle, frame 12, and is shorter than five seconds.
    shown = clips.frames('results/a_out_compare.mp4')
    result = clips.frames('results/a_out.mp4')
    source = [enlarge(convert_to_bgr8(frame), result[0]) for frame in clips.frames('a.mp4')]
    assert shown.shape == (6, 192, 2 * 256 + 8, 3)
    for number, both in enumerate(shown, 12):  # each shows its own frame and not a neighbour
        for half, frames in ((both[40:, :256], source), (both[40:, 264:], result)):
            distances = [np.abs(half.astype(int) - frame[40:]).mean() for frame in frames]
            assert np.argmin(distances) == number
    assert files(tmp_path / 'results') == ['a_out.mp4', 'a_out_compare.mp4']


def test_some_frames_of_every_video_are_checked(run, tmp_path, monkeypatch):
    clips.make(tmp_path / 'a.mp4', *clips.numbered('30'), *clips.EXACT)
    submit, calls = RealESRGANer.submit, []

    def blacken(self, img, *more, **options):
        result, mode = submit(self, img, *more, **options)()
        calls.append(None)
        return lambda: (result * (len(calls) != 15), mode)
    monkeypatch.setattr(RealESRGANer, 'submit', blacken)
    status, out, err = run('-i', 'a.mp4', '-s', '1', script=inference_realesrgan_video)
    assert status == 0
    assert re.findall(r'warning: a\.mp4: frame (\d+): .* is black', err) == ['15']
    assert re.search(r'results/a_out\.mp4: 30 frames, .* s, bad \(black', out)
    calls.clear()
    assert 'black' not in ''.join(run('-i', 'a.mp4', '-s', '1', '--no_check', script=inference_realesrgan_video)[1:])


def test_a_resumed_video_reports_what_this_run_did(run, tmp_path, at_calls):
    clips.make(tmp_path / 'a.mp4', *clips.numbered('24'), *clips.EXACT)
    at_calls([20], KeyboardInterrupt())
    arguments = '-i', 'a.mp4', '--report', 'r.json', '--chunk', '0.25'
    assert run(*arguments, script=inference_realesrgan_video)[0] == 130
    assert load()['files'] == []
    assert run(*arguments, script=inference_realesrgan_video)[0] == 0
    [file] = load()['files']
    assert (file['frames'], file['reused']) == (24, 18)
    assert {sample['frame'] for sample in file['samples']} <= set(range(18, 24))
    assert len(file['samples']) == 3


def test_a_folder_of_frames_is_compared_too(run, tmp_path):
    for index in range(5):
        write(tmp_path / f'in/{index}.png', 16, 24, 3, seed=index)
    assert run('-i', 'in', '--compare', '--crf', '0', script=inference_realesrgan_video)[0] == 0
    assert clips.video('results/in_out_compare.mp4')['frames'] == 5


def test_what_can_be_read_once_only_has_no_clip(run, tmp_path, http_server):
    clips.make(tmp_path / 'a.ts', *clips.picture('32x16', seconds='0.5'), *clips.EXACT)
    http_server.files['/a.ts'] = (tmp_path / 'a.ts').read_bytes()
    status, _, err = run('-i', f'{http_server.url}/a.ts', '--compare', '--report', 'r.json',
                         script=inference_realesrgan_video)
    assert status == 0
    assert 'no comparison: the input can be read once only' in err
    assert load()['files'][0]['comparison'] is None
    assert len(load()['files'][0]['samples']) >= 1


def test_a_dry_run_has_nothing_to_report(run, tmp_path):
    clips.make(tmp_path / 'a.mp4', *clips.picture('32x16', seconds='0.2'), *clips.EXACT)
    for option in (['--compare'], ['--report', 'r.json']):
        status, _, err = run('-i', 'a.mp4', '--dry_run', *option, script=inference_realesrgan_video)
        assert (status, err) == (2, 'error: --dry_run makes no results that --compare or --report could show\n')
