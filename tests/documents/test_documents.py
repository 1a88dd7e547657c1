"""The documents agree with each other in both languages, with the scripts' options, and their links lead somewhere."""
from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.web import __main__ as web
from tests.support.markdown_files import EVERYTHING, LANGUAGES, PROJECT, TRANSLATED, Document, name_translation

# ---- two languages ----

def test_both_languages_have_the_same_files():
    korean = {'README.ko.md', *(f'docs/ko/{path.name}' for path in (PROJECT / 'docs/ko').iterdir())}
    assert korean == set(map(name_translation, TRANSLATED))


@pytest.fixture(params=TRANSLATED)
def pair(request):
    """An English document and its translation."""
    return Document(request.param), Document(name_translation(request.param))


def test_headings_are_the_same_in_number_level_and_order(pair):
    english, korean = ([level for level, _ in document.headings] for document in pair)
    assert english == korean


def test_commands_and_programs_are_the_same(pair):
    english, korean = ([(block.language, block.lines) for block in document.blocks] for document in pair)
    assert english == korean


def test_tables_have_the_same_rows_and_code(pair):
    english, korean = ([[Counter(re.findall(r'`([^`]+)`', ' '.join(row))) for row in table]
                        for table in document.tables] for document in pair)
    assert english == korean


def test_code_in_sentences_is_the_same(pair):
    english, korean = (Counter(document.spans) for document in pair)
    assert english == korean


def test_each_language_links_to_the_other_at_its_top(pair):
    for document, other in (pair, pair[::-1]):
        line = document.text.split('\n')[2]
        link, = re.findall(r'\[(.*?)\]\((.*?)\)', line)
        assert {*line.replace(f'[{link[0]}]({link[1]})', link[0]).split(' | ')} == LANGUAGES
        assert (document.path.parent / link[1]).resolve() == other.path


def test_korean_links_to_korean(pair):
    """Where a document has a translation, Korean readers are led to that."""
    _, korean = pair
    targets = {(korean.path.parent / link.partition('#')[0]).resolve() for link in korean.links if ':' not in link}
    english = {PROJECT / name for name in TRANSLATED} - {pair[0].path}
    assert targets & english == set()


# ---- links ----

@pytest.mark.parametrize('document', EVERYTHING, ids=lambda document: document.name)
def test_links_lead_to_files_and_headings(document):
    broken = []
    for link in document.links:
        if re.match(r'https?:', link):
            continue
        file, _, anchor = unquote(link).partition('#')
        target = (document.path.parent / file).resolve() if file else document.path
        inside = target.exists() and target.is_relative_to(PROJECT)
        if not inside or (anchor and anchor not in Document(str(target.relative_to(PROJECT))).anchors):
            broken.append(link)
    assert broken == []


def test_files_that_sentences_name_exist():
    named = {span for document in EVERYTHING for span in document.spans
             if re.fullmatch(r'(examples|docs|tests|benchmarks)/[\w./]+', span)}
    assert len(named) > 5
    assert [name for name in sorted(named) if not (PROJECT / name).exists()] == []


# ---- options ----

PARSERS = {'pictures': inference_realesrgan.build_parser(), 'videos': inference_realesrgan_video.build_parser()}


def read_help(parser):
    """The default of each option as --help says it, by the option's names."""
    return {tuple(action.option_strings): found[1] if (found := re.search(r'\(default: (.*)\)$', parser_help)) else ''
            for action in parser._actions
            for parser_help in [parser._get_formatter()._expand_help(action) if action.help else '']}


def read_tables(document):
    """The option tables: for each heading, the names of each row's options, and its default."""
    rows = {}
    for section in re.split(r'^## ', document.prose, flags=re.M)[1:]:
        title, _, body = section.partition('\n')
        for line in body.split('\n'):
            if line.startswith('| `-'):
                names, _, default = (cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1])
                rows.setdefault(title, []).append((re.findall(r'`([^`]+)`', names), default))
    return rows


@pytest.mark.parametrize('which', PARSERS)
def test_the_options_are_those_of_the_parser_with_its_defaults(which):
    other = {'pictures': 'Only for videos', 'videos': 'Only for pictures'}[which]
    written = {}
    for title, rows in read_tables(Document('docs/options.md')).items():
        for names, default in rows if title != other else []:
            for name in names:
                assert name not in written, name
                written[name] = default.replace('`', '')
    helped = read_help(PARSERS[which])
    assert set(written) == {name for names in helped for name in names}
    position = list(PARSERS).index(which)
    written |= {name: written[name].split(', ')[position] for name in ('-n', '--model_name')}
    assert {name: written[name] for names in helped for name in names} == {
        name: default for names, default in helped.items() for name in names}


def test_the_options_of_the_service_are_those_of_its_parser_with_its_defaults():
    rows = [row for table in Document('docs/web.md').tables for row in table if row[0].startswith('`--')]
    parser = web.build_parser()
    actions = {name: action for action in parser._actions for name in action.option_strings}
    assert len(rows) >= 9
    for name, _, default in rows:
        action = actions[name.strip('`')]
        assert default == (str(action.default).removesuffix('.0') if action.default is not None else 'the system\'s')
    text = Document('docs/web.md').text
    of_the_service = {name for name in actions if name.startswith('--')} - set(PARSERS['videos']._option_string_actions)
    assert [name for name in sorted(of_the_service) if name not in text] == []
    assert '--token' in of_the_service


@pytest.mark.parametrize('document', [Document(name) for name in TRANSLATED], ids=lambda document: document.name)
def test_options_in_sentences_are_valid(document):
    """`--tile_pad` alone must be an option, and `-t 200` must be accepted by one of the programs."""
    parsers = *PARSERS.values(), web.build_parser()
    names = {name for parser in parsers for action in parser._actions for name in action.option_strings}
    wrong = []
    for span in document.spans:
        if not re.match(r'--?[a-zA-Z]', span):
            continue
        words = shlex.split(span.replace('...', ''))
        if not (words[0] in names if len(words) == 1 else any(accepts(parser, words) for parser in parsers)):
            wrong.append(span)
    assert wrong == []


def accepts(parser, words):
    if {word for word in words if re.match(r'--?[a-zA-Z]', word)} & {'--list_devices', '--version', '--help'}:
        return True
    try:
        parser.parse_args(words)
    except SystemExit:
        return False
    return True


def test_the_picture_at_the_top_is_small_and_twice_as_wide_as_high():
    import cv2
    path = PROJECT / 'docs' / 'before_after.jpg'
    height, width = cv2.imread(str(path)).shape[:2]
    assert (width, height) == (1032, 512)  # two panels of 512 and a gap of 8
    assert path.stat().st_size < 200_000
    assert Path('docs', path.name).as_posix() in Document('README.md').links
