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

@pytest.mark.parametrize('name', TRANSLATED)
def test_both_languages_say_the_same(name):
    """As far as that can be told: headings, commands, programs, code in sentences and tables, and links."""
    english, korean = documents = Document(name), Document(name_translation(name))
    assert korean.path.exists()

    def agree(read):
        assert read(english) == read(korean)
    agree(lambda document: [level for level, _ in document.headings])
    agree(lambda document: [(block.language, block.lines) for block in document.blocks])
    agree(lambda document: [[Counter(re.findall(r'`([^`]+)`', ' '.join(row))) for row in table]
                            for table in document.tables])
    agree(lambda document: Counter(document.spans))
    for document, other in (documents, documents[::-1]):  # each links to the other at its top
        line = document.text.split('\n')[2]
        link, = re.findall(r'\[(.*?)\]\((.*?)\)', line)
        assert {*line.replace(f'[{link[0]}]({link[1]})', link[0]).split(' | ')} == LANGUAGES
        assert (document.path.parent / link[1]).resolve() == other.path
    targets = {(korean.path.parent / link.partition('#')[0]).resolve() for link in korean.links if ':' not in link}
    assert targets & {PROJECT / name for name in TRANSLATED} - {english.path} == set()  # they have a translation
    assert len(list((PROJECT / 'docs/ko').iterdir())) == len(TRANSLATED) - 1


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
    """The default of each option as --help says it, by each of its names."""
    texts = {action: parser._get_formatter()._expand_help(action) for action in parser._actions if action.help}
    return {name: found[1] if (found := re.search(r'\(default: (.*)\)$', text)) else ''
            for action, text in texts.items() for name in action.option_strings}


def read_tables(document):
    """The option tables: for each heading, the default of each option by each of its names."""
    rows = {}
    for section in re.split(r'^## ', document.prose, flags=re.M)[1:]:
        title, _, body = section.partition('\n')
        for line in re.findall(r'^\| `-.*', body, re.M):
            names, _, default = (cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1])
            rows.setdefault(title, []).extend((name, default.replace('`', '')) for name in re.findall('`(.+?)`', names))
    return rows


@pytest.mark.parametrize('which', PARSERS)
def test_the_options_are_those_of_the_parser_with_its_defaults(which):
    other = {'pictures': 'Only for videos', 'videos': 'Only for pictures'}[which]
    tables = read_tables(Document('docs/options.md'))
    written = [row for title, rows in tables.items() if title != other for row in rows]
    assert max(Counter(name for name, _ in written).values()) == 1
    position = list(PARSERS).index(which)
    assert {name: default.split(', ')[position] if name in ('-n', '--model_name') else default
            for name, default in written} == read_help(PARSERS[which])


def test_the_options_of_the_service_are_those_of_its_parser_with_its_defaults():
    document, helped = Document('docs/web.md'), read_help(web.build_parser())
    rows = {row[0].strip('`'): row[2] for table in document.tables for row in table if row[0].startswith('`--')}
    assert len(rows) >= 9
    assert rows == {name: helped[name].removesuffix('.0') for name in rows}
    of_the_service = {name for name in helped if name.startswith('--')} - set(read_help(PARSERS['videos']))
    assert [name for name in sorted(of_the_service) if name not in document.text] == []
    assert '--token' in of_the_service


@pytest.mark.parametrize('document', [Document(name) for name in TRANSLATED], ids=lambda document: document.name)
def test_options_in_sentences_are_valid(document):
    """`--tile_pad` alone must be an option, and `-t 200` must be accepted by one of the programs."""
    parsers = *PARSERS.values(), web.build_parser()
    names = {name for parser in parsers for name in read_help(parser)}
    options = [shlex.split(span.replace('...', '')) for span in document.spans if re.match(r'--?[a-zA-Z]', span)]
    assert [words for words in options if not (words[0] in names if len(words) == 1 else any(
        accepts(parser, words) for parser in parsers))] == []


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
