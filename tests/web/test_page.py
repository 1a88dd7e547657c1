"""The page in a browser, as people use it."""
from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import cv2
import pytest

import realesrgan.quality
import realesrgan.web
from tests.support import clips
from tests.support.web_client import MODEL, decode, encode, noise

pytest.importorskip('flask')
pytest.importorskip('prometheus_client')

from realesrgan.web import app, uploads

expect = pytest.importorskip('playwright.sync_api').expect

FOLDER = Path(realesrgan.web.__file__).parent
QUALITY = Path(realesrgan.quality.__file__).parent
DEVICES = {'desktop': ((1280, 900), 'light'), 'phone': ((390, 800), 'dark')}

# Drops files as a hand does: playwright can't move them from outside into the page.
DROP = '''([name, type, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, {type}));
  for (const kind of ['dragenter', 'dragover', 'drop']) {
    document.querySelector('#drop').dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true,
                                                                       cancelable: true}));
  }
}'''


@pytest.fixture
def serve(serve):
    """Start services of which no other page has heard."""
    return partial(serve, fresh=True)


@pytest.fixture
def visit(chromium, request):
    """Open the page of a service; fails if the page throws, or asks another host for anything."""
    problems, contexts = [], []

    def open_page(service, *, size=(1280, 900), scheme='light', locale='en-US'):
        context = chromium.new_context(viewport={'width': size[0], 'height': size[1]}, color_scheme=scheme,
                                       locale=locale, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on('pageerror', lambda error: problems.append(str(error)))
        page.on('request', lambda asked: None if asked.url.startswith((service.url, 'blob:')) else problems.append(
            asked.url))
        page.goto(service.url)
        page.get_by_role('radio', name='Video' if locale == 'en-US' else '영상').check(force=True)  # the fastest model
        return page
    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def choose(page, *files):
    page.set_input_files('#files', [{'name': name, 'mimeType': kind, 'buffer': data} for name, kind, data in files])


def png(height=40, width=60, seed=0):
    return encode(noise(height, width, seed=seed))


@pytest.mark.parametrize('device', DEVICES)
def test_a_file_is_chosen_upscaled_compared_and_downloaded(serve, visit, tmp_path, device):
    service = serve()
    size, scheme = DEVICES[device]
    page = visit(service, size=size, scheme=scheme)
    choose(page, ('my photo.png', 'image/png', png()))
    job = page.get_by_role('listitem').filter(has_text='my photo.png')
    expect(job.locator('.state')).to_have_text(re.compile(r'done in \d+\.\d s'), timeout=60_000)
    expect(job.locator('.sizes')).to_have_text('60\u00d740 \u2192 240\u00d7160')
    expect(page.get_by_role('status')).to_have_text(re.compile(r'my photo\.png: done in'))
    slider, pair = job.get_by_role('slider', name='How much of my photo.png is shown as it was'), job.locator('.pair')
    expect(pair).to_be_visible()
    slider.press('ArrowLeft')
    assert pair.evaluate('pair => pair.style.getPropertyValue("--at")') == '49%'
    box = slider.bounding_box()
    page.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] * 0.8, box['y'] + box['height'] / 2, steps=5)
    page.mouse.up()
    assert 70 < float(pair.evaluate('pair => pair.style.getPropertyValue("--at")').rstrip('%')) < 90
    with page.expect_download() as download:
        job.get_by_role('link', name='Download my photo_out.png').click()
    assert download.value.suggested_filename == 'my photo_out.png'
    download.value.save_as(tmp_path / 'result.png')
    assert cv2.imread(str(tmp_path / 'result.png')).shape == (160, 240, 3)
    assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')
    job.get_by_role('button', name='Remove').click()
    expect(page.get_by_role('listitem')).to_have_count(0)
    page.wait_for_timeout(300)
    assert service.files == []


def test_files_are_dropped_or_pasted_and_all_are_downloaded(serve, visit):
    page = visit(serve())
    page.evaluate(DROP, ['a.png', 'image/png', list(png())])
    page.evaluate('''bytes => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], 'image.png', {type: 'image/png'}));
      document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}));
    }''', list(png()))
    expect(page.locator('.download:visible')).to_have_count(2, timeout=60_000)
    downloads = []
    page.on('download', lambda download: downloads.append(download.suggested_filename))
    page.get_by_role('button', name='Download all').click()
    page.wait_for_timeout(1500)
    assert sorted(downloads) == ['a_out.png', 'image_out.png']


def test_the_full_size_scrolls_in_its_frame(serve, visit):
    page = visit(serve(), size=(390, 800))
    choose(page, ('a.png', 'image/png', png(100, 200)))
    button, frame = page.get_by_role('button', name='Full size'), page.locator('.frame')
    expect(button).to_be_visible(timeout=60_000)
    button.press('Enter')
    expect(button).to_have_attribute('aria-pressed', 'true')
    assert page.locator('.after').evaluate('picture => picture.clientWidth') == 800
    assert page.locator('.before').evaluate('picture => picture.clientWidth') == 800
    assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')
    assert (frame.get_attribute('tabindex'), frame.evaluate('frame => frame.scrollLeft') > 100) == ('0', True)
    button.press('Enter')
    assert page.locator('.after').evaluate('picture => picture.clientWidth') < 390
    assert frame.get_attribute('tabindex') == '-1'


def test_a_video_is_played(serve, visit, tmp_path):
    service = serve()
    page = visit(service)
    page.get_by_role('radio', name='Photo').check(force=True)
    film = clips.make(tmp_path / 'film.mkv', *clips.numbered(seconds='0.4'), *clips.EXACT).read_bytes()
    choose(page, ('film.mkv', '', film))  # whose type browsers don't know
    expect(page.locator('.state')).to_have_text(re.compile('done in'), timeout=60_000)
    expect(page.get_by_role('link', name='Download film_out.mp4')).to_be_visible()
    clip = page.locator('.clip')
    expect(clip).to_have_attribute('aria-label', 'film_out.mp4')
    clip.evaluate('clip => new Promise(known => {'
                  '  if (clip.readyState || clip.error) known(); else clip.onloadedmetadata = clip.onerror = known })')
    assert clip.evaluate('clip => clip.hidden === !clip.readyState')  # some builds of Chromium can't play H.264


def test_the_keyboard_reaches_everything_and_the_focus_stays_among_the_results(serve, visit):
    page = visit(serve())
    reached = set()
    for _ in range(4):
        page.keyboard.press('Tab')
        reached.add(page.evaluate('document.activeElement.id || document.activeElement.tagName'))
    assert {'SUMMARY', 'files'} <= reached
    choose(page, ('a.txt', 'text/plain', b'a'), ('b.txt', 'text/plain', b'b'))
    expect(page.get_by_role('alert')).to_have_count(2)
    for left in ('.cancel', '#files'):
        page.locator('.cancel').first.press('Enter')
        assert page.evaluate('left => document.activeElement.matches(left)', left)


def test_options_reach_the_service(serve, visit):
    service = serve()
    page = visit(service)
    page.get_by_text('Options').click()
    expect(page.locator('select[name=model]')).to_have_value(MODEL)
    expect(page.get_by_label('Remove noise')).to_be_hidden()
    page.locator('select[name=model]').select_option('realesr-general-x4v3')
    expect(page.get_by_label('Remove noise')).to_be_visible()
    page.locator('select[name=model]').select_option(MODEL)
    page.locator('select[name=scale]').select_option('2')
    page.locator('select[name=format]').select_option('webp')
    page.get_by_label('Restore faces').check()
    choose(page, ('a.png', 'image/png', png()))
    expect(page.locator('.sizes')).to_have_text('60\u00d740 \u2192 120\u00d780', timeout=60_000)
    expect(page.locator('.warnings')).to_contain_text(f'{MODEL} is a model for anime')
    url = page.get_by_role('link', name='Download a_out.webp').get_attribute('href')
    assert decode(service.get(url).content).shape == (80, 120, 3)


@pytest.mark.parametrize(('locale', 'words', 'verdict'), [
    ('en-US', ('Or width (pixels)', 'Strength (0 to 1)'),
     'Take a look (changed colours, edges of tiles)'),
    ('ko-KR', ('또는 너비(픽셀)', '강도(0~1)'), '확인 필요 (색 변화, 타일 경계)')])
def test_size_strength_and_verdict_are_in_both_languages(serve, visit, monkeypatch, locale, words, verdict):
    monkeypatch.setattr('realesrgan.web.app.asdict', lambda _: {'word': 'look', 'reasons': ['colour', 'tiles']})
    page = visit(serve(), locale=locale)
    page.locator('summary').click()
    for label, value in zip(words, ('100', '0'), strict=True):
        page.get_by_label(label).fill(value)
    choose(page, ('a.png', 'image/png', png()))
    expect(page.locator('.sizes')).to_have_text('60\u00d740 \u2192 100\u00d767', timeout=60_000)
    expect(page.locator('.verdict')).to_have_text(verdict)
    url = page.locator('.download').get_attribute('href')
    result = decode(page.context.request.get(page.url.rstrip('/') + url).body()).astype(int)
    plain = cv2.resize(noise(40, 60), (100, 67), interpolation=cv2.INTER_CUBIC).astype(int)
    assert abs(result - plain).mean() < 1  # the network's is 40 and more from it


@pytest.mark.parametrize(('device', 'locale', 'first', 'use', 'figures'), [
    ('desktop', 'en-US', 'Compare models first, on a small part of each file', 'Use ',
     r'[\d.]+ s/megapixel; in all about 0:00:\d\d, less than 1 MiB'),
    ('phone', 'ko-KR', '먼저 파일의 작은 부분으로 모델 비교하기', ' 사용',
     r'메가픽셀당 [\d.]+초, 전체 약 0:00:\d\d, 1 MiB 미만')])
def test_models_are_compared_and_one_is_used(serve, visit, monkeypatch, device, locale, first, use, figures):
    other = 'RealESRGAN_x4plus_anime_6B'
    monkeypatch.setattr(uploads, 'list_installed', lambda: [other, MODEL])
    page = visit(serve(), size=DEVICES[device][0], locale=locale)
    page.get_by_label(first).check()
    choose(page, ('a.png', 'image/png', png()))
    rows = page.locator('.models li')
    expect(rows).to_have_count(2, timeout=60_000)
    for row, model in zip(rows.all(), (other, MODEL), strict=True):
        expect(row).to_have_text(re.compile(f'({use}{model}|{model}{use}){figures}$'))
    expect(page.locator('.sheet')).to_be_visible()
    assert page.locator('.sheet').evaluate('sheet => sheet.decode().then(() => sheet.naturalWidth)') > 1000
    assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')
    rows.last.get_by_role('button').click()
    expect(page.locator('.sizes').first).to_have_text('60\u00d740 \u2192 240\u00d7160', timeout=60_000)
    expect(page.locator('.download')).to_have_count(2)


def test_what_is_refused_is_said_in_words(serve, visit):
    page = visit(serve(max_bytes=100_000, max_pixels=10_000))
    for data, message in (
            (b'hello', 'This is no picture and no video that can be read.'),
            (bytes(200_000), 'This file is 0.2 MB; the limit is 0.1 MB.'),
            (png(101, 100), 'This has 100\u00d7101 pixels; the limit is 10,000 pixels.'),
            (png()[:-500], "This picture is damaged, or of a kind that can't be read or written."),
            (b'', "The service can't be reached. Is it still running?")):
        page.context.set_offline(not data)
        choose(page, ('a.png', 'image/png', data))
        expect(page.get_by_role('alert')).to_have_text(message, timeout=60_000)
        page.get_by_role('button', name='Remove').click()


FAILED = {'state': 'failed', 'error': 'told in English', 'code': 'weights', 'values': {}, 'warnings': ['w' * 300]}
DONE = {'state': 'done', 'warnings': [], 'seconds': 1234.56, 'size': [1300, 975], 'result_size': [5200, 3900],
        'verdict': None, 'compared': [], 'name': 'a.txt', 'result': '/jobs/x/result'}


@pytest.mark.parametrize(('locale', 'told', 'taken'), [
    ('en-US', 'The weights of this model are missing', 'done in 1,234.6 s'),
    ('ko-KR', '이 모델의 가중치가 없고', '1,234.6초 만에 완료')])
def test_failures_are_told_in_the_readers_words_and_fit_a_phone(serve, visit, locale, told, taken):
    page, states = visit(serve(), size=DEVICES['phone'][0], locale=locale), iter([FAILED, DONE])
    page.route('**/jobs', lambda route: route.fulfill(status=202, json=next(states)))
    choose(page, ('n' * 200, 'image/png', png()), ('a.png', 'image/png', png()))
    expect(page.get_by_role('alert')).to_contain_text(told)
    expect(page.locator('.state').first).to_have_text(taken)
    expect(page.locator('.sizes').first).to_have_text('1300\u00d7975 \u2192 5200\u00d73900')
    assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')


def test_progress_and_a_full_queue_that_is_waited_for(serve, short_waits, visit):
    page = visit(serve(queue=1))

    def find(name):
        return page.get_by_role('listitem').filter(has_text=name)
    page.get_by_role('radio', name='Photo').check(force=True)
    choose(page, ('slow.png', 'image/png', png(400, 400)))
    expect(find('slow.png').locator('.state')).to_have_text(re.compile('working'), timeout=60_000)
    expect(find('slow.png').get_by_role('progressbar')).to_be_visible()
    page.get_by_role('radio', name='Video').check(force=True)
    for name, state in (
            ('second.png', 'next in line'), ('third.png', re.compile(r'The service is busy; trying again in \d+ s')),
            ('fourth.png', 'waiting to be sent')):  # or its whole file would be sent for another refusal
        choose(page, (name, 'image/png', png()))
        expect(find(name).locator('.state')).to_have_text(state)
    find('slow.png').get_by_role('button', name='Cancel').click()
    expect(page.get_by_role('listitem')).to_have_count(3)
    for name in ('third.png', 'fourth.png'):
        expect(find(name).locator('.state')).to_have_text(re.compile('done in'), timeout=60_000)


def test_the_token_is_asked_for_on_the_page_or_in_a_link(serve, chromium):
    service = serve(token='secret')
    for link in (False, True):
        context = chromium.new_context()
        page = context.new_page()
        page.goto(f'{service.url}/{"?token=guess" if link else ""}')
        if not link:
            page.get_by_label('Token').fill('guess')
            page.get_by_role('button', name='Enter').click()
        expect(page.get_by_role('alert')).to_have_text('That is not the token.')
        if link:
            page.goto(f'{service.url}/?token=secret')
            assert page.url == f'{service.url}/'  # without the token, which would stay on the screen
        else:
            page.get_by_label('Token').fill('secret')
            page.get_by_label('Token').press('Enter')
        choose(page, ('notes.txt', 'text/plain', b'hello'))
        expect(page.get_by_role('alert')).to_contain_text('no picture and no video')
        context.close()


def test_korean_browsers_get_korean(serve, visit):
    page = visit(serve(), locale='ko-KR')
    assert page.locator('html').get_attribute('lang') == 'ko'
    expect(page.get_by_text('파일을 놓거나 붙여 넣거나 선택하세요')).to_be_visible()
    expect(page.locator('#limits')).to_have_text('파일당 최대 250 MB, 25메가픽셀, 영상은 60초까지')
    choose(page, ('a.png', 'image/png', png()), ('b.txt', 'text/plain', b'hello'))
    expect(page.get_by_role('link', name='a_out.png 내려받기')).to_be_visible(timeout=60_000)
    expect(page.get_by_role('alert')).to_have_text('읽을 수 있는 이미지나 영상이 아닙니다.')


def _luminance(colour):
    digits = colour[1:] if len(colour) == 7 else ''.join(2 * digit for digit in colour[1:])
    channels = [int(digits[at:at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize('scheme', [0, 1], ids=['light', 'dark'])
def test_contrast_is_that_of_wcag_aa(scheme):
    style = (FOLDER / 'static/page.css').read_text()
    colours = {name: pair[scheme] for name, *pair in
               re.findall(r'--([\w-]+): light-dark\((#\w+), (#\w+)\)', style)}
    pairs = [(ink, ground, 4.5) for ink in ('ink', 'faint') for ground in ('ground', 'card', 'tint')] + [
        ('bad', 'card', 4.5), ('on-accent', 'accent', 4.5), ('accent', 'ground', 3), ('accent', 'card', 3),
        ('edge', 'ground', 3), ('edge', 'card', 3)]
    for ink, ground, least in pairs:
        light, dark = sorted((_luminance(colours[ink]), _luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, (ink, ground)


def test_both_languages_have_the_same_words():
    strings = json.loads((FOLDER / 'static/strings.json').read_text())
    assert set(strings) == {'en', 'ko'}
    assert list(strings['en']) == list(strings['ko'])
    for name, words in strings['en'].items():
        assert set(re.findall(r'{\w+}', words)) == set(re.findall(r'{\w+}', strings['ko'][name])), name
    page = (FOLDER / 'templates/page.html').read_text()
    script = (FOLDER / 'static/page.js').read_text()
    used = set(re.findall(r'data-text="(\w+)"', page)) | set(re.findall(r"text\('(\w+)'", script)) | {
        'frame_time', 'megapixel_time',
        'cancelled', 'failed', *set(uploads.FIELDS) - set(app._SHOWN)}
    findings = ''.join(path.read_text() for path in QUALITY.glob('*.py'))
    used |= {f'why_{kind.replace(" ", "_")}' for kind in re.findall(r"Finding\(\s*'([\w ]+)'", findings)}
    used |= {f'verdict_{word}' for word in ('good', 'look', 'bad')}
    used |= {name for name in strings['en'] if name.startswith(('status_', 'error_'))}  # test_service has those
    assert used == set(strings['en'])
    for name, words in re.findall(r'data-text="(\w+)">([^<]+)<', page):
        assert words == strings['en'][name]


def test_a_file_that_was_chosen_before_the_script_came_is_not_lost(serve, chromium):
    service = serve()
    page = chromium.new_page()
    page.route('**/page.js', lambda route: (page.wait_for_timeout(700), route.continue_()))
    page.goto(service.url, wait_until='commit')
    page.locator('#files').wait_for(state='attached')
    page.get_by_role('radio', name='Video').check(force=True)
    choose(page, ('early.png', 'image/png', png()))
    expect(page.get_by_role('listitem').filter(has_text='early.png').locator('.state')).to_have_text(
        re.compile('done in'), timeout=60_000)
    page.close()
