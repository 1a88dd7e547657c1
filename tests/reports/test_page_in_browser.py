"""The page of a report, as a browser shows it."""
from __future__ import annotations

import cv2
import numpy as np
import pytest

import inference_realesrgan
from tests.support import clips


@pytest.fixture(scope='module')
def page_file(tmp_path_factory):
    """A report of three pictures, of which one is missing and one has lost its colours."""
    folder = tmp_path_factory.mktemp('report')
    network = clips.save_network(folder / 'plain.pth', plain=True)
    noise = np.random.default_rng(0)
    for name, size in (('large', 60), ('small', 30)):
        cv2.imwrite(str(folder / f'{name}.png'), noise.integers(0, 256, (size, 40, 3), np.uint8))
    inference_realesrgan.main([
        '--model_path', network, '-i', str(folder / 'large.png'), str(folder / 'small.png'), str(folder / 'none.png'),
        '-o', str(folder), '--report', str(folder / 'report.html'), '-q'])
    return folder / 'report.html'


@pytest.fixture(params=[(1280, 900, 'light'), (390, 800, 'dark')], ids=['desktop', 'phone'])
def page(chromium, page_file, request):
    width, height, scheme = request.param
    context = chromium.new_context(viewport={'width': width, 'height': height}, color_scheme=scheme)
    page = context.new_page()
    problems = []
    page.on('pageerror', lambda error: problems.append(error))
    page.on('request', lambda asked: problems.append(asked.url) if not asked.url.startswith(('file:', 'data:')) else 0)
    page.goto(page_file.as_uri())
    yield page
    assert problems == []
    context.close()


def names(page):
    return [text.split()[0] for text in page.locator('tbody td:first-child').all_inner_texts()]


def test_a_click_on_a_column_sorts_the_table(page):
    assert sorted(names(page)) == ['large.png', 'none.png', 'small.png']
    button = page.get_by_role('button', name='input', exact=True)
    button.click()
    assert names(page) == ['none.png', 'small.png', 'large.png']
    assert page.locator('th[aria-sort=ascending]').inner_text() == 'input'
    button.press('Enter')
    assert names(page) == ['large.png', 'small.png', 'none.png']
    assert page.locator('th[aria-sort]').count() == 1


def test_the_slider_moves_by_mouse_and_by_keyboard(page):
    slider = page.get_by_role('slider', name='large.png')
    pair = page.locator('.pair').first
    assert pair.evaluate('pair => pair.style.getPropertyValue("--at")') == '50%'
    slider.press('ArrowRight')
    assert pair.evaluate('pair => pair.style.getPropertyValue("--at")') == '51%'
    box = slider.bounding_box()
    page.mouse.click(box['x'] + box['width'] * 0.9, box['y'] + box['height'] / 2)
    assert 85 < float(pair.evaluate('pair => pair.style.getPropertyValue("--at")').rstrip('%')) < 95


def test_the_charts_name_each_file_and_use_the_width(page):
    plots = page.locator('.plot')
    assert plots.count() == 2  # seconds and quality
    for plot in plots.all():
        assert plot.locator('span:nth-child(3n+1)').all_inner_texts() == ['large.png', 'small.png']
    longest = max(box.bounding_box()['width'] for box in plots.first.locator('.stages').all())
    assert longest > 0.4 * page.viewport_size['width']
    row = page.locator('tbody tr', has_text='large.png')
    shown = float(row.locator('td').nth(6).inner_text())
    assert plots.first.locator('span:nth-child(3)').inner_text() == f'{shown:.2f} s'


def test_the_links_lead_to_the_results(page, page_file):
    link = page.locator('tbody tr', has_text='large.png').get_by_role('link', name='result')
    assert link.evaluate('link => link.href') == (page_file.parent / 'large_out.png').as_uri()
    assert (page_file.parent / 'large_out.png').exists()


def test_nothing_is_wider_than_the_window_but_the_table_which_scrolls(page):
    assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')
    assert page.locator('.flags').inner_text().count('no such file or folder') == 1
    dark = page.evaluate('matchMedia("(prefers-color-scheme: dark)").matches')
    light_ground = page.evaluate('getComputedStyle(document.body).backgroundColor')
    assert light_ground == ('rgb(22, 23, 26)' if dark else 'rgb(246, 245, 242)')
