"""The page in a browser, as people use it."""
from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import cv2
import pytest
from PIL import Image

import realesrgan.quality
import realesrgan.web
from tests.support import clips
from tests.support.web_client import MODEL, decode, encode, noise, wait_until

pytest.importorskip('flask')
pytest.importorskip('prometheus_client')

from realesrgan.web import app, errors, uploads

expect = pytest.importorskip('playwright.sync_api').expect
expect.set_options(timeout=60_000)

FOLDER = Path(realesrgan.web.__file__).parent
QUALITY = Path(realesrgan.quality.__file__).parent
DESKTOP, PHONE = (1280, 900), (390, 800)
SLOW = 'RealESRGAN_x4plus'

# Drops files as a hand does: playwright can't move them from outside into the page.
DROP = '''([name, type, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, {type}));
  for (const kind of ['dragenter', 'dragover', 'drop']) {
    document.querySelector('#drop').dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true,
                                                                       cancelable: true}));
  }
}'''
PASTE = '''([name, type, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, {type}));
  document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}));
}'''


@pytest.fixture
def serve(serve):
    """Start services of which no other page has heard."""
    return partial(serve, fresh=True)


@pytest.fixture
def visit(chromium):
    """Open the page of a service; fails if the page throws, or asks another host for anything."""
    problems, contexts = [], []

    def open_page(service, *, size=DESKTOP, locale='en-US'):
        context = chromium.new_context(viewport={'width': size[0], 'height': size[1]}, locale=locale,
                                       accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on('pageerror', lambda error: problems.append(str(error)))
        page.on('request', lambda asked: None if asked.url.startswith((service.url, 'blob:')) else problems.append(
            asked.url))
        page.goto(service.url)
        return page
    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def png(height=40, width=60, seed=0):
    return encode(noise(height, width, seed=seed))


def choose(page, *files):
    page.set_input_files('#files', [{'name': name, 'mimeType': kind, 'buffer': data} for name, kind, data in files])


def find(page, name):
    """The card of a file."""
    return page.locator('#jobs > li').filter(has=page.get_by_text(name, exact=True))


def start(card, *, model=MODEL, **settings):
    """Start a card's job, by the fastest model."""
    for name, value in {'model': model, **settings}.items():
        card.locator(f'select[name={name}]').select_option(value)
    card.locator('.start').click()


def fits(page):
    return page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')


def list_values(card, name):
    return card.locator(f'select[name={name}] option').evaluate_all('all => all.map(option => option.value)')


def test_choose_look_adjust_start_and_download(serve, visit, monkeypatch, tmp_path):
    monkeypatch.setattr(app, 'list_installed', lambda: [MODEL, SLOW])
    service = serve()
    page = visit(service)
    choose(page, ('my photo.png', 'image/png', png()))
    card = find(page, 'my photo.png')
    expect(card.locator('.pair img')).to_be_visible()  # what was dropped, and an estimate
    expect(card.locator('.sizes')).to_have_text(re.compile(r'60\u00d740 \u2192 240\u00d7160(, about \d+ second)?'))
    assert sum(service.queue.count_states().values()) == 0  # nothing runs before it is started
    options = card.locator('select[name=model] option')
    expect(options.filter(has_text='RealESRNet_x4plus')).to_have_text('RealESRNet_x4plus (download)')
    expect(options.filter(has_text=MODEL)).to_have_text(MODEL)
    strength = card.get_by_label('Strength')
    strength.fill('0.5')
    expect(card.locator('label:has([name=strength]) .value')).to_have_text('50%')
    card.locator('select[name=model]').select_option(MODEL)
    card.get_by_role('button', name='Preview', exact=True).click()  # a part of it
    expect(card.locator('.models button')).to_have_attribute('aria-pressed', 'true')
    expect(card.locator('.pair img')).to_have_count(2)
    card.locator('select[name=scale]').select_option('2')
    expect(card.locator('.pair img')).to_have_count(1)  # which is no longer what it would be
    expect(card.locator('.sizes')).to_have_text(re.compile('^60\u00d740 \u2192 120\u00d780, about 1 second$'))
    card.locator('.start').click()
    expect(card.locator('.state')).to_have_text(re.compile(r'done in [\d.]+ seconds?'))
    expect(card.locator('.sizes')).to_have_text(f'60\u00d740 \u2192 120\u00d780, {MODEL}')
    expect(page.get_by_role('status')).to_have_text(re.compile(r'my photo\.png: done in'))
    slider = card.get_by_role('slider', name='How much of the original my photo.png to show')
    pair = card.locator('.pair')
    expect(pair.locator('img')).to_have_count(2)
    slider.press('ArrowLeft')
    expect(pair).to_have_attribute('style', re.compile('--at: 49%'))
    box = pair.bounding_box()
    page.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] * 0.8, box['y'] + box['height'] + 100, steps=5)
    page.mouse.up()
    expect(pair).to_have_attribute('style', re.compile(r'--at: [78]\d[.%]'))
    assert page.evaluate('getSelection().toString()') == ''
    with page.expect_download() as download:
        card.get_by_role('link', name='Download my photo_out.png').click()
    download.value.save_as(tmp_path / 'result.png')
    assert cv2.imread(str(tmp_path / 'result.png')).shape == (80, 120, 3)
    assert fits(page)
    page.set_viewport_size({'width': PHONE[0], 'height': PHONE[1]})
    assert fits(page)
    card.get_by_role('button', name='Remove').click()
    expect(page.get_by_role('listitem')).to_have_count(0)
    wait_until(lambda: service.files == [])


def test_the_same_file_again_and_all_of_it_after_a_reload(serve, visit):
    service = serve()
    page, sent = visit(service), []
    page.on('request', lambda asked: sent.append(asked.url) if asked.url.endswith('/files') else None)
    choose(page, ('a.png', 'image/png', png()), ('b.png', 'image/png', png(seed=1)))
    for name in ('b.png', 'a.png'):
        start(find(page, name))
    expect(page.locator('[data-state=done]')).to_have_count(2)
    find(page, 'a.png').get_by_role('button', name='Other settings').click()
    again = page.locator('#jobs > li').nth(1)
    expect(again.locator('select[name=model]')).to_have_value(MODEL)
    start(again, scale='2')
    expect(again.locator('.sizes')).to_have_text(f'60\u00d740 \u2192 120\u00d780, {MODEL}')
    choose(page, ('c.png', 'image/png', png(seed=2)))
    find(page, 'c.png').locator('select[name=scale]').select_option('3')
    expect(find(page, 'c.png').locator('.sizes')).to_contain_text('180\u00d7120')
    assert len(sent) == 3
    page.reload()
    expect(page.locator('[data-state=done] .after')).to_have_count(3)
    expect(page.locator('[data-state=done] .before')).to_have_count(3)  # which the service has kept
    expect(page.locator('.name')).to_have_text(['a.png', 'a.png', 'b.png', 'c.png'])
    expect(find(page, 'c.png').locator('.sizes')).to_contain_text('180\u00d7120')  # with what was chosen
    for path in [job.identity for job in service.queue.list_jobs()][:1]:
        service.client.delete(f'{service.url}/jobs/{path}')
    page.reload()
    expect(page.locator('[data-state=ready]')).to_have_count(2)  # its file is still there
    for _ in range(4):
        page.get_by_role('button', name='Remove').first.click()
    expect(page.get_by_role('listitem')).to_have_count(0)
    assert page.evaluate('localStorage.length') == 0
    wait_until(lambda: service.files == [])


def test_a_file_that_has_expired_is_sent_again_and_settings_outlast_a_service_that_is_away(serve, visit):
    service = serve()
    page = visit(service)
    choose(page, ('a.png', 'image/png', png()))
    expect(page.locator('.sizes')).to_contain_text('240\u00d7160')
    service.queue.remove_upload(*service.queue._uploads.values())
    page.locator('select[name=scale]').select_option('2')
    expect(page.locator('.sizes')).to_contain_text('120\u00d780')
    page.route('**/files/*', lambda route: route.abort())
    page.reload()
    expect(page.locator('[data-state=failed] select[name=scale]')).to_have_value('2')


def test_what_was_started_goes_on_after_a_service_that_was_away_or_has_forgotten_it(serve, visit):
    service = serve()
    page = visit(service)
    choose(page, ('a.png', 'image/png', png(400, 400)))
    card, state = find(page, 'a.png'), page.locator('.state')

    def is_away(away):
        page.context.set_offline(away)
    start(card, model=SLOW)
    expect(state).to_have_text(re.compile('working'))
    page.route('**/jobs/*', lambda route: route.fulfill(status=502, body='<h1>Bad Gateway</h1>'))  # says a proxy
    expect(state).to_have_text("The service can't be reached. Is it still running?")
    page.unroute('**/jobs/*')
    expect(state).to_have_text(re.compile('working'))
    card.get_by_role('button', name='Cancel').click()
    is_away(True)
    card.locator('select[name=scale]').select_option('2')
    expect(card.locator('.sizes')).to_have_text("The service can't be reached. Is it still running?")
    is_away(False)
    service.queue.remove_upload(*service.queue._uploads.values())
    start(card)  # sends it again
    expect(card.locator('.sizes')).to_have_text(f'400\u00d7400 \u2192 800\u00d7800, {MODEL}')
    for job in service.queue.list_jobs():
        service.queue.remove(job)
    card.get_by_role('link', name='Download a_out.png').click()
    expect(page.get_by_role('alert')).to_have_text('This job has expired or was removed.')
    card.get_by_role('button', name='Try again').click()
    expect(card).to_have_attribute('data-state', 'done')


def test_a_file_that_the_browser_cannot_show_is_upscaled_all_the_same(serve, visit):
    page = visit(serve())
    choose(page, ('a.tiff', 'image/tiff', encode(noise(20, 30), '.tiff')))
    start(find(page, 'a.tiff'))
    expect(page.locator('[data-state=done]').get_by_text("This browser can't show this file.")).to_be_visible()
    expect(page.get_by_role('link', name='Download a_out.tiff')).to_be_visible()
    page.get_by_role('button', name='Other settings').click()
    find(page, 'a.tiff').last.get_by_role('button', name='Preview', exact=True).click()
    expect(find(page, 'a.tiff').last.locator('.pair img')).to_have_count(2)
    expect(find(page, 'a.tiff').last.locator('.unshown')).to_be_hidden()


def test_formats_and_presets_fit_each_file(serve, visit, tmp_path):
    page = visit(serve())
    film = clips.make(tmp_path / 'film.mkv', *clips.numbered(seconds='0.4'), *clips.EXACT).read_bytes()
    frames = [Image.fromarray(noise(8, 12, seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / 'a.gif', save_all=True, append_images=frames[1:])
    choose(page, ('a.png', 'image/png', png()), ('film.mkv', '', film), ('a.gif', 'image/gif',
                                                                        (tmp_path / 'a.gif').read_bytes()))
    picture, video, animation = (find(page, name) for name in ('a.png', 'film.mkv', 'a.gif'))
    expect(page.locator('[data-state=ready]')).to_have_count(3)
    assert list_values(picture, 'format') == ['auto', 'jpg', 'png', 'webp', 'tiff']
    assert list_values(video, 'format') == ['mp4', 'mkv', 'mov', 'webm', 'gif', 'apng', 'webp']
    assert list_values(animation, 'format') == ['auto', 'gif', 'apng', 'webp', 'mp4', 'mkv', 'mov', 'webm']
    assert list_values(picture, 'preset') == ['photo', 'drawing', '']
    assert list_values(video, 'preset') == ['anime', 'film', '']
    expect(video.get_by_label('Remove noise')).to_be_hidden()
    video.locator('select[name=preset]').select_option('film')
    expect(video.locator('select[name=model]')).to_have_value('realesr-general-x4v3')
    expect(video.get_by_label('Less flicker')).to_be_checked()
    expect(video.get_by_label('Remove noise')).to_be_visible()
    video.get_by_label('Less flicker').uncheck()
    expect(video.locator('select[name=preset]')).to_have_value('')
    expect(picture.get_by_label('Less flicker')).to_have_count(0)
    expect(video.get_by_label('Restore faces')).to_have_count(0)
    picture.locator('summary').click()
    picture.get_by_label('Or width (pixels)').fill('0')
    expect(picture.locator('.sizes')).to_have_text('Or width (pixels): this value is not allowed.')
    expect(picture.locator('.start')).to_be_disabled()
    picture.get_by_label('Or width (pixels)').fill('30')
    expect(picture.locator('.sizes')).to_contain_text('60\u00d740 \u2192 30\u00d720')


def test_the_mouse_pans_and_the_wheel_zooms_in_full_size(serve, visit):
    page = visit(serve(), size=PHONE)
    choose(page, ('a.png', 'image/png', png(100, 200)))
    card = find(page, 'a.png')
    start(card)
    button, frame, pair = page.get_by_role('button', name='Full size'), card.locator('.frame'), card.locator('.pair')
    expect(button).to_be_visible()
    expect(card.locator('.after')).to_be_visible()
    button.press('Enter')
    expect(button).to_have_attribute('aria-pressed', 'true')
    for each in ('.after', '.before'):
        wait_until(lambda each=each: page.locator(each).evaluate('picture => picture.clientWidth') == 800)
    assert fits(page)
    left = frame.evaluate('frame => frame.scrollLeft')
    assert (frame.get_attribute('tabindex'), left > 100) == ('0', True)
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    page.mouse.move(box['x'] + 60, box['y'] + 60)
    page.mouse.down()
    page.mouse.move(box['x'] + 160, box['y'] + 60, steps=4)
    page.mouse.up()
    wait_until(lambda: frame.evaluate('frame => frame.scrollLeft') == pytest.approx(left - 100, abs=2))
    assert pair.evaluate('pair => pair.style.getPropertyValue("--at")') == '50%'  # the line has stayed
    page.mouse.wheel(0, -400)
    expect(pair).to_have_attribute('style', re.compile(r'width: 2174\.\d+px'))  # e times as large
    frame.press('-')
    expect(pair).to_have_attribute('style', re.compile(r'width: 1739\.\d+px'))
    button.press('Enter')
    expect(frame).to_have_attribute('tabindex', '-1')
    assert page.locator('.after').evaluate('picture => picture.clientWidth') < 390


def test_a_video_plays_before_and_after_as_one(serve, visit, tmp_path):
    service = serve()
    page = visit(service)
    film = clips.make(tmp_path / 'film.webm', *clips.numbered('1', '10'), '-c:v', 'libvpx').read_bytes()
    choose(page, ('film.webm', '', film))  # whose type browsers may not know
    card = find(page, 'film.webm')
    start(card, format='webm')
    expect(page.get_by_role('link', name='Download film_out.webm')).to_be_visible()
    expect(card.locator('video')).to_have_count(2)
    card.get_by_role('slider', name='Position in the video').fill('0.5')
    before, after = card.locator('video.before'), card.locator('video.after')
    expect(card.get_by_role('button', name='Play')).to_be_visible()
    wait_until(lambda: 4 < before.evaluate('video => video.currentTime') < 6)
    wait_until(lambda: before.evaluate('video => video.currentTime') == after.evaluate('video => video.currentTime'))
    card.get_by_role('button', name='Play').click()
    card.get_by_role('button', name='Pause').click()
    wait_until(lambda: [video.evaluate('video => video.paused') for video in (before, after)] == [True, True])


def test_several_files_keep_their_order_and_share_settings(serve, visit):
    page = visit(serve())
    page.evaluate(DROP, ['a.png', 'image/png', list(png())])
    page.evaluate(PASTE, ['image.png', 'image/png', list(png())])
    first = page.locator('#jobs > li').first
    first.locator('select[name=model]').select_option(MODEL)
    first.locator('select[name=format]').select_option('webp')
    first.get_by_role('button', name='Same for all').click()
    page.get_by_role('button', name='Start all').click()
    expect(page.locator('.name')).to_have_text(['a.png', 'image.png'])
    expect(page.locator('[data-state=done]')).to_have_count(2)
    downloads = []
    with page.expect_event('download', lambda download: downloads.append(download.suggested_filename) or
                           len(downloads) == 2):
        page.get_by_role('button', name='Download all').click()
    assert sorted(downloads) == ['a_out.webp', 'image_out.webp']


def test_the_keyboard_reaches_everything_and_the_focus_stays_among_the_cards(serve, visit):
    page = visit(serve())
    choose(page, ('a.png', 'image/png', png()))
    expect(page.locator('.start')).to_be_enabled()
    reached = set()
    for _ in range(17):
        page.keyboard.press('Tab')
        reached.add(page.evaluate('(e => e.id || e.name || e.classList[0] || e.tagName)(document.activeElement)'))
    assert {'files', 'preset', 'model', 'scale', 'format', 'strength', 'face', 'SUMMARY', 'try', 'compare', 'remove',
            'start'} <= reached | {'primary'} | ({'start'} if 'primary' in reached else set())
    choose(page, ('b.txt', 'text/plain', b'b'))
    expect(page.get_by_role('alert')).to_have_count(1)
    for left in ('.remove', '#files'):
        page.locator('.remove').first.press('Enter')
        expect(page.locator(left).first).to_be_focused()


@pytest.mark.parametrize(('locale', 'label', 'verdict'), [
    ('en-US', 'Or width (pixels)', 'Take a look (changed colours, edges of tiles)'),
    ('ko-KR', '또는 너비(픽셀)', '확인 필요 (색 변화, 타일 경계)')])
def test_size_strength_and_verdict_are_in_both_languages(serve, visit, monkeypatch, locale, label, verdict):
    monkeypatch.setattr('realesrgan.events.Verdict._asdict', lambda _: {
        'word': 'look', 'reasons': ['colour', 'tiles'], 'messages': ['for anime']})
    page = visit(serve(), locale=locale)
    choose(page, ('a.png', 'image/png', png()))
    page.locator('summary').click()
    page.get_by_label(label).fill('100')
    page.locator('input[name=strength]').fill('0')
    page.locator('input[name=face]').check()
    start(find(page, 'a.png'))
    expect(page.locator('.sizes')).to_have_text(f'60\u00d740 \u2192 100\u00d767, {MODEL}')
    expect(page.locator('.verdict')).to_have_text(verdict)
    expect(page.locator('.warnings')).to_be_hidden()  # that of faces counts as a finding here
    url = page.locator('.download').get_attribute('href')
    result = decode(page.context.request.get(page.url.rstrip('/') + url).body()).astype(int)
    plain = cv2.resize(noise(40, 60), (100, 67), interpolation=cv2.INTER_CUBIC).astype(int)
    assert abs(result - plain).mean() < 1  # the network's is 40 and more from it


@pytest.mark.parametrize(('size', 'locale', 'button', 'figures'), [
    (DESKTOP, 'en-US', 'Compare models', r'about \d+ seconds?, less than 1 MB'),
    (PHONE, 'ko-KR', '모델 비교', r'약 \d+초, 1 MB 미만')], ids=['desktop', 'phone'])
def test_models_are_compared_and_one_is_used(serve, visit, monkeypatch, size, locale, button, figures):
    other = 'RealESRGAN_x4plus_anime_6B'
    monkeypatch.setattr(uploads, 'list_installed', lambda: [other, MODEL])
    page = visit(serve(), size=size, locale=locale)
    choose(page, ('a.png', 'image/png', png()))
    page.get_by_role('button', name=button).click()
    rows = page.locator('.models li')
    expect(rows).to_have_count(2)
    for row, model in zip(rows.all(), (other, MODEL), strict=True):
        expect(row).to_have_text(re.compile(f'{model}{figures}$'))
    assert fits(page)
    rows.last.get_by_role('button').click()
    expect(rows.last.get_by_role('button')).to_have_attribute('aria-pressed', 'true')
    expect(page.locator('select[name=model]')).to_have_value(MODEL)
    expect(page.locator('.after')).to_have_attribute('src', re.compile('/panels/2$'))
    page.locator('.start').click()
    expect(page.locator('.sizes')).to_have_text(f'60\u00d740 \u2192 240\u00d7160, {MODEL}')


def test_a_preview_is_of_the_place_that_is_clicked_on_or_reached_by_keys(serve, visit):
    page, sent = visit(serve()), []
    page.on('request', lambda asked: sent.append(asked.post_data) if asked.url.endswith('/jobs') else None)

    def preview():
        page.get_by_role('button', name='Preview', exact=True).click()
        expect(page.locator('.models')).to_be_visible()
        found = re.search(r'name="preview_at"\s+(\d+),(\d+)', sent[-1])
        page.get_by_role('button', name='Whole picture').click()
        expect(page.locator('.pair img')).to_have_count(1)
        return found and [int(each) for each in found.groups()]
    choose(page, ('a.png', 'image/png', png(300, 400)))
    pair, mark = page.locator('.pair'), page.locator('.mark')
    page.locator('select[name=model]').select_option(MODEL)
    assert preview() is None
    box = pair.bounding_box()
    pair.click(position={'x': box['width'] * 0.75, 'y': box['height'] * 0.2})
    expect(mark).to_have_css('opacity', '1')
    assert preview() == pytest.approx([300, 60], abs=2)
    mark.press('ArrowLeft')
    mark.press('ArrowDown')
    assert preview() == pytest.approx([292, 66], abs=2)
    mark.click()
    page.locator('h1').click()
    expect(mark).to_have_css('opacity', '0')
    assert preview() is None


def test_what_is_refused_is_said_in_words(serve, visit):
    page = visit(serve(max_bytes=100_000, max_pixels=10_000))
    for data, message in (
            (b'hello', 'This is not a picture or a video that can be read.'),
            (bytes(200_000), 'This file is 0.2 MB; the limit is 0.1 MB.'),
            (png(101, 100), 'This has 100\u00d7101 pixels; the limit is 10,000 pixels.'),
            (b'', 'This file is empty.'), (b'any', "The service can't be reached. Is it still running?")):
        page.context.set_offline(data == b'any')
        choose(page, ('a.png', 'image/png', data))
        expect(page.get_by_role('alert')).to_have_text(message)
        expect(page.get_by_role('button', name='Try again')).to_have_count(int(data == b'any'))
        page.get_by_role('button', name='Remove').click()
    page.context.set_offline(False)
    choose(page, ('a.png', 'image/png', png()[:-500]))
    start(find(page, 'a.png'))
    expect(page.get_by_role('alert')).to_have_text("This picture is damaged, or of a kind that can't be read or "
                                                   'written.')
    page.get_by_role('button', name='Try again').click()
    expect(page.get_by_role('alert')).to_be_hidden()
    expect(page.get_by_role('alert')).to_be_visible()


def test_no_room_for_another_file_is_said_and_removing_one_makes_it(serve, visit):
    service = serve(max_bytes=8000, queue=1)  # room for two of 7 kB
    page = visit(service)
    choose(page, *((f'{name}.png', 'image/png', png()) for name in 'abc'))
    last = find(page, 'c.png')
    expect(last.get_by_role('alert')).to_have_text(
        'The service has no room for more files. Remove some here, or try again later.')
    expect(page.locator('.pair img')).to_have_count(3)
    find(page, 'a.png').get_by_role('button', name='Remove').press('Enter')  # a click may miss what moves
    wait_until(lambda: len(service.files) == 1)
    last.get_by_role('button', name='Try again').press('Enter')
    expect(last).to_have_attribute('data-state', 'ready')


FAILED = {'state': 'failed', 'error': 'told in English', 'code': 'weights', 'values': {}, 'url': '/jobs/x'}
DONE = {'state': 'done', 'warnings': ['w' * 300], 'seconds': 7240.56, 'size': [1300, 975], 'result_size': [5200, 3900],
        'verdict': None, 'part': None, 'name': 'a.txt', 'result': '/jobs/x/result', 'url': '/jobs/x', 'model': MODEL}


@pytest.mark.parametrize(('locale', 'told', 'taken', 'estimate'), [
    ('en-US', 'The weights of this model are missing', 'done in 2 hours 1 minute', 'about 2 minutes'),
    ('ko-KR', '이 모델의 가중치가 없고', '2시간 1분 만에 완료', '약 2분')])
def test_words_and_figures_are_the_readers_and_fit_a_phone(serve, visit, monkeypatch, locale, told, taken, estimate):
    monkeypatch.setattr('realesrgan.web.jobs.JobQueue.estimate', lambda *_: 110.0)
    page, states = visit(serve(), size=PHONE, locale=locale), iter([FAILED, DONE])
    page.route('**/jobs', lambda route: route.fulfill(status=202, json=next(states)))
    choose(page, ('n' * 200, 'image/png', png()), ('a.png', 'image/png', png()))
    expect(page.locator('.sizes').first).to_have_text(f'60\u00d740 \u2192 240\u00d7160, {estimate}')
    page.locator('.start').first.click()
    expect(page.get_by_role('alert')).to_contain_text(told)
    page.locator('.start').last.click()
    expect(page.locator('.state').last).to_have_text(taken)
    expect(page.locator('.sizes').last).to_have_text(f'1300\u00d7975 \u2192 5200\u00d73900, {MODEL}')
    assert fits(page)


def test_progress_and_a_full_queue_that_is_waited_for(serve, short_waits, visit):
    page = visit(serve(queue=1))
    choose(page, ('slow.png', 'image/png', png(400, 400)), *((f'{name}.png', 'image/png', png()) for name in 'bcd'))
    expect(page.locator('[data-state=ready]')).to_have_count(4)
    start(find(page, 'slow.png'), model=SLOW)
    expect(find(page, 'slow.png').locator('.state')).to_have_text(re.compile('working'))
    expect(find(page, 'slow.png').get_by_role('progressbar')).to_be_visible()
    for name, state in (('b.png', 'next in line'), ('c.png', re.compile(r'The service is busy; trying again in \d+ s')),
                        ('d.png', 'waiting')):  # behind the one before, so that their order stays
        start(find(page, name))
        expect(find(page, name).locator('.state')).to_have_text(state)
    find(page, 'slow.png').get_by_role('button', name='Cancel').click()
    expect(find(page, 'slow.png')).to_have_attribute('data-state', 'ready')  # for other settings
    for name in ('c.png', 'd.png'):
        expect(find(page, name).locator('.state')).to_have_text(re.compile('done in'))


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
        expect(page.get_by_role('alert')).to_contain_text('not a picture or a video')
        context.close()


def test_korean_browsers_get_korean(serve, visit):
    page = visit(serve(), locale='ko-KR')
    expect(page.locator('html')).to_have_attribute('lang', 'ko')
    expect(page.get_by_text('파일을 놓거나 붙여 넣거나 선택하세요')).to_be_visible()
    expect(page.locator('#limits')).to_have_text('파일당 최대 250 MB, 25메가픽셀, 영상은 1분까지')
    choose(page, ('a.png', 'image/png', png()), ('b.txt', 'text/plain', b'hello'))
    start(find(page, 'a.png'))
    expect(page.get_by_role('link', name='a_out.png 다운로드')).to_be_visible()
    expect(page.get_by_role('alert')).to_have_text('읽을 수 있는 이미지나 영상이 아닙니다.')


@pytest.mark.parametrize(('locale', 'told'), [
    ('en-US', ['its 12 bits are read as 8', 'not kept in webp: EXIF, texts', 'something new']),
    ('ko-KR', ['12비트 이미지를 8비트로 읽었습니다.', 'webp 형식에 저장하지 못한 정보: EXIF, texts', 'something new'])])
def test_warnings_are_in_the_readers_language_where_there_are_words(serve, visit, locale, told):
    page = visit(serve(), locale=locale)
    page.route('**/jobs', lambda route: route.fulfill(status=202, json=DONE | {'warnings': [
        'its 12 bits are read as 8', 'not kept in webp: EXIF, texts; --ext png keeps it', 'something new']}))
    choose(page, ('a.png', 'image/png', png()))
    page.locator('.start').click()
    lines = page.locator('.warnings li')
    expect(lines).to_have_text(told)
    assert lines.evaluate_all('all => all.map(line => line.lang)') == [*[locale[:2]] * 2, 'en']


def test_the_words_of_warnings_are_those_of_the_library():
    source = ''.join(path.read_text('utf-8') for path in FOLDER.parent.rglob('*.py') if path.parent != FOLDER)
    source = re.sub(r"'\s+'", '', source)  # of literals in several lines
    for name, words in errors.STRINGS['en'].items():
        if name.startswith('warning_'):
            pattern = re.sub('{.*?}', '%[a-z]', words)
            assert re.search(f"'[^'\n]*{pattern}", source), name


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
    strings = errors.STRINGS
    assert set(strings) == {'en', 'ko'}
    assert list(strings['en']) == list(strings['ko'])
    for name, words in strings['en'].items():
        assert set(re.findall(r'{\w+}', words)) == set(re.findall(r'{\w+}', strings['ko'][name])), name
    page = (FOLDER / 'templates/page.html').read_text()
    script = ''.join((FOLDER / 'static' / name).read_text() for name in ('page.js', 'viewer.js'))
    used = set(re.findall(r'data-text="(\w+)"', page)) | set(re.findall(r"text\('(\w+)'", script)) | {
        'pause', 'play', *set(uploads.FIELDS) - set(app._SHOWN)}
    findings = ''.join(path.read_text() for path in QUALITY.glob('*.py'))
    used |= {f'why_{kind.replace(" ", "_")}' for kind in re.findall(r"Finding\(\s*'([\w ]+)'", findings)}
    used |= {f'verdict_{word}' for word in ('good', 'look', 'bad')}
    used |= {name for name in strings['en'] if name.startswith(('status_', 'error_', 'warning_'))}  # others test those
    assert used == set(strings['en'])
    for name, words in re.findall(r'data-text="(\w+)">([^<]+)<', page):
        assert words == strings['en'][name]


def test_a_file_that_was_chosen_before_the_script_came_is_not_lost(serve, chromium):
    service = serve()
    page = chromium.new_page()
    page.route('**/page.js', lambda route: (page.wait_for_timeout(700), route.continue_()))
    page.goto(service.url, wait_until='commit')
    page.locator('#files').wait_for(state='attached')
    choose(page, ('early.png', 'image/png', png()))
    expect(find(page, 'early.png').locator('.start')).to_be_enabled()
    page.close()
