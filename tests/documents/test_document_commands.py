"""Every command and every program of the documents and the examples runs, as it stands there, or is listed below."""
from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.options import RunOptions
from realesrgan.upscaling.size import Size, scale_size
from realesrgan.weights import __main__ as weights
from tests.support import clips, face_stand_ins, moving_pictures, stand_ins
from tests.support.markdown_files import ONLY_ENGLISH, PROJECT, TRANSLATED, Document
from tests.support.web_client import Command

#: Commands that no test here runs, as patterns, and why.
NOT_RUN = {
    'make (demo|lint)|.* make test|make (test|coverage|fuzz)': 'CI runs these, and these tests among them',
    'make audit': 'half a minute, and needs a registry of packages; to be run before a release',
    r'\. \.venv/bin/activate': 'enters the environment that the tests run in',
    r'pip install .*': 'installs; `make`, and with it CI, installs the same',
    'apt-get install .*': 'needs root',
    'nvidia-smi -l 1': 'needs an NVIDIA card, and does not end',
    'docker .*|cibuildwheel .*': 'needs Docker',
    r'python -m realesrgan\.weights (NAME|GFPGANv1\.3)': 'a placeholder; test_weights_command.py has small files',
    r'(CC=.* )?python -m realesrgan\.engines\.kernel\.build.*': 'writes into the package; test_kernel.py runs it',
    r'python -m realesrgan\.tuning': 'two minutes; test_tuning.py measures engines that only pretend to compute',
    r'python benchmarks/gpu\.py .*': 'six minutes; tests/test_benchmarks.py runs it with small sizes',
    'export LD_PRELOAD=.*': 'needs gcc',
    'python -m pytest .*': 'is one of these tests',
    'ray start .*|python .* --cluster auto': 'needs a cluster, and leaves processes behind; test_cluster.py has one',
    'sbatch .*': 'needs Slurm; test_cluster_examples.py runs the script on a node',
    'kubectl .*': 'needs Kubernetes; test_cluster_examples.py reads the file',
    r'python benchmarks/soak\.py .*': 'half an hour; tests/test_benchmarks.py runs a round',
}


def is_run(command: str) -> bool:
    return not any(re.fullmatch(pattern, command) for pattern in NOT_RUN)


# The Korean documents have the same commands, which test_documents.py checks.
DOCUMENTS = [Document(name) for name in (
    *TRANSLATED, *sorted(ONLY_ENGLISH), 'CONTRIBUTING.md', 'inputs/README.md', 'weights/README.md')]
EXAMPLES = sorted(path for path in (PROJECT / 'examples').iterdir() if path.is_file())
#: Placeholders of usage lines in examples; the documents have commands without any.
PLACEHOLDERS = re.compile(r'\b(FILE|FOLDER|REPORT\.json|URL)\b')

SCRIPTS = {'inference_realesrgan.py': inference_realesrgan, 'inference_realesrgan_video.py': inference_realesrgan_video}
SERVICE = 'python -m realesrgan.web'
# What is in an answer of the service, by the last part of its address.
ANSWERS = {'models': 'RealESRGAN_x4plus', 'healthz': '"status":"ok"', 'metrics': 'realesrgan_jobs{state="queued"} 0.0'}


def list_example_commands(path: Path) -> Iterator[str]:
    """Yield the commands in the text at the top of an example."""
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.py':
        text = ast.get_docstring(ast.parse(text), clean=False) or ''
    else:
        text = '\n'.join(line[1:] for line in text.split('\n') if line.startswith('#'))
    yield from re.findall(r'^ +((?:python |examples/|sbatch |kubectl |docker ).*)$', text, re.M)


#: The commands of each document and of each example, by its name; those with a placeholder are shown in a document.
COMMANDS = {document.name: list(document.commands) for document in DOCUMENTS} | {
    path.name: [command for command in list_example_commands(path) if not PLACEHOLDERS.search(command)]
    for path in EXAMPLES}


def test_the_list_holds_no_command_that_is_gone_and_examples_show_their_use():
    commands = {command for some in COMMANDS.values() for command in some}
    assert [pattern for pattern in NOT_RUN if not any(re.fullmatch(pattern, command) for command in commands)] == []
    assert len(list(filter(is_run, commands))) > 50
    for path in EXAMPLES:
        assert any(path.name in command for command in list_example_commands(path))
        assert any(path.name in command and not PLACEHOLDERS.search(command) for command in commands), path.name


def test_blocks_of_commands_and_programs_are_marked_as_such():
    """Or the tests below would not see them."""
    unmarked = [command for document in DOCUMENTS for block in document.blocks
                if block.language not in ('bash', 'python')
                for command in block.lines if re.match(r'\$ |python |make |pip |import |from ', command)]
    assert unmarked == []
    assert sum(len(set(document.commands)) for document in DOCUMENTS) > 70


@pytest.fixture(scope='module')
def filled(tmp_path_factory):
    """A folder with all the files that the documents name."""
    folder = tmp_path_factory.mktemp('filled')
    stand_ins.fill(folder)
    return folder


@pytest.fixture
def shell(filled, tmp_path, monkeypatch, start_program):
    """A `Shell` in a copy of that folder."""
    shutil.copytree(filled, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PATH', f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}')
    monkeypatch.setenv('PYTHONPATH', str(PROJECT))
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    shell = Shell(tmp_path, monkeypatch, start_program)
    yield shell
    shell.end_service()


@dataclass
class Shell:
    """Runs commands one after the other, and asserts what they make."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    start_program: Callable[..., subprocess.Popen[bytes]]
    ran: list[str] = field(default_factory=list)
    service: Command | None = None

    def run(self, command: str) -> None:
        """Run a command of a document."""
        if not is_run(command) or command in self.ran:
            return
        shutil.rmtree('results', ignore_errors=True)
        words = shlex.split(command)
        if command.startswith(SERVICE):
            for package in ('flask', 'waitress', 'prometheus_client'):
                pytest.importorskip(package)
            self.end_service()
            self.service = Command(self.start_program, *words[3:])
        elif words[0] == 'python' and words[1] in SCRIPTS and not {'<', '>'} & set(words):
            self._run_script(words[1], words[2:])
        elif words[:3] == ['python', '-m', 'realesrgan.weights']:
            assert weights.main(words[3:]) == 0
        else:
            self._run_bash(command)
        self.ran.append(command)

    def _run_bash(self, command: str) -> None:
        needed = ['bash', 'curl'] if command.startswith(('curl', 'examples/web_client.sh')) else ['bash']
        if missing := [program for program in needed if shutil.which(program) is None]:
            pytest.skip(f'there is no {missing[0]}')
        if self.service is not None:
            command = command.replace('http://127.0.0.1:5000', self.service.url)
            command += f' --url {self.service.url}' if 'web_client.py' in command else ''
        environment = os.environ | ({'HOME': str(self.folder / 'home')} if '~' in command else {})
        result = subprocess.run(['bash', '-c', command], env=environment, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, f'{command}\n{result.stderr}'
        check_bash(command, result.stdout)

    def _run_script(self, name: str, arguments: list[str]) -> None:
        if '--face_enhance' in arguments:
            if importlib.util.find_spec('gfpgan') is None:
                return
            stand_ins.take_real_photo(self.folder)
            face_stand_ins.put_in_place(self.monkeypatch)
        if '--start' in arguments:
            shutil.copy('long/film.mkv', 'film.mkv')
        if '--ffmpeg_bin' in arguments:  # wherever it is here
            arguments[arguments.index('--ffmpeg_bin') + 1] = clips.FFMPEG.ffmpeg
        if '--list_devices' in arguments:
            with pytest.raises(SystemExit) as ended:
                SCRIPTS[name].main(arguments)
            assert ended.value.code == 0
            return
        parsed = SCRIPTS[name].build_parser().parse_args(arguments)
        assert SCRIPTS[name].main(arguments) == 0, arguments
        if parsed.preview:
            [sheet] = Path(parsed.output).iterdir()
            assert cv2.imread(str(sheet)).shape[1] > (1 + len(parsed.models)) * 640
            return
        check = check_pictures if name == 'inference_realesrgan.py' else check_videos
        check(parsed)
        if parsed.report:
            assert (Path(parsed.input[0]).name if Path(parsed.input[0]).is_file() else 'astronaut.jpg') in Path(
                parsed.report).read_text(encoding='utf-8')
        if parsed.input == ['film.mkv']:
            shutil.copy('a.mkv', 'film.mkv')

    def end_service(self) -> None:
        if self.service is not None:
            assert self.service.end() == 130
            self.service = None


def find_size(parsed: argparse.Namespace, *size: Any) -> Size:
    """Return the final size that a command asks for."""
    options = RunOptions(width=parsed.width, height=parsed.height, fit=parsed.fit)
    return options.find_size(*size) or scale_size(*size[:2], parsed.outscale or 4)


def check_pictures(parsed: argparse.Namespace) -> None:
    """Assert that each input has a result of the right size and format."""
    sources = []
    for name in parsed.input:
        path = Path(name)
        found = (path.rglob('*') if parsed.recursive else path.iterdir()) if path.is_dir() else Path().glob(name)
        sources += [file for file in found if file.is_file()]
    assert sources
    for source in sources:
        extension = source.suffix if parsed.ext == 'auto' else f'.{parsed.ext}'
        [found] = [path for path in Path(parsed.output).rglob('*') if path.suffix == extension
                   and path.stem.split(f'_{parsed.suffix}')[0] == source.stem and not path.stem.endswith('_compare')]
        before, after = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (source, found))
        width, height = find_size(parsed, *before.shape[1::-1])
        assert (after.shape, after.dtype) == ((height, width, before.shape[2]), before.dtype), source
        assert found.with_name(f'{found.stem}_compare.jpg').exists() == parsed.compare
    assert len(sources) + parsed.compare * len(sources) == sum(path.is_file() for path in Path('results').rglob('*'))


def check_videos(parsed: argparse.Namespace) -> None:
    """Assert that each input has a result of the right size with all its frames."""
    if parsed.dry_run:
        assert not Path('results').exists() or list(Path('results').iterdir()) == []
        return
    if parsed.input[0] in ('sticker.webp', 'stickers', 'loop.gif', 'logo.mov'):
        stem, own = ('a', 'gif') if parsed.input == ['stickers'] else parsed.input[0].split('.')
        [path] = Path('results').iterdir()
        assert path.name == f'{stem}_out.{own if parsed.ext == "auto" else parsed.ext}'
        if parsed.ext == 'webm':
            assert ('alpha_mode', '1') in [(key.lower(), value) for key, value in clips.video(path)['tags'].items()]
        else:
            assert moving_pictures.read(path).frames.shape == (6, 96, 128, 4)
        return
    sources = [path for name in parsed.input for path in Path().glob(name)]
    assert sources
    for source in sources:
        result = clips.video(f'results/{source.stem}_out.{"mp4" if parsed.ext == "auto" else parsed.ext}')
        width, height, frames = (20, 18, 3) if source.is_dir() else stand_ins.CLIP
        if parsed.start is not None:
            frames = (parsed.end - parsed.start) * 2  # of 2 frames a second
        assert (result['size'], result['frames']) == (find_size(parsed, width, height, (2, 2)), frames)
        assert parsed.fps is None or Fraction(result['r_frame_rate']) == parsed.fps
        assert result['codec_name'] == ('hevc' if parsed.vcodec == 'libx265' else 'h264')
    assert len(list(Path('results').iterdir())) == len(sources) * (1 + parsed.compare)


def check_bash(command: str, out: str) -> None:
    """Assert what a command run by bash has made."""
    if 'batch_process.sh' in command or 'custom_inference.py' in command:
        folders = [path for path in Path().glob('results_*') if path.is_dir()]
        for folder in folders:
            assert [path.name for path in folder.iterdir()] == ['a_out.jpg']
            assert cv2.imread(str(folder / 'a_out.jpg')).shape == (72, 80, 3)
            assert folder.name.removeprefix('results_') in out
            shutil.rmtree(folder)
        assert len(folders) == (2 if 'realesr-animevideov3' in command else 3)
    elif written := re.search(r'large\.(png|jpg)', command):
        assert Path(written[0]).read_bytes().startswith(b'\x89PNG' if written[1] == 'png' else b'\xff\xd8')
        assert cv2.imread(written[0]).shape == (72, 80, 3)
    elif 'profile_run.py' in command:
        assert 'inputs/astronaut.jpg: ' in out or 'film.mkv: ' in out
    elif 'web_client.sh' in command:
        assert clips.video('film_out.mp4')['size'] == (64, 48)
    elif 'web_client.py' in command:
        assert cv2.imread('astronaut_out.jpg').shape == cv2.imread('cat_16bit_out.png').shape == (72, 80, 3)
    elif command.startswith('curl') and (path := command.rpartition('/')[2]) in ANSWERS:
        assert ANSWERS[path] in out
    elif 'print_completion' in command:
        script = Path('home/.local/share/bash-completion/completions/inference_realesrgan').read_text()
        assert re.search(r'^complete .*inference_realesrgan$', script, re.M)
        assert '--face_enhance' in script
    else:
        assert command.startswith('mkdir -p '), f'{command}: no test knows what this makes'


@pytest.mark.parametrize('source', COMMANDS)
def test_commands(shell, source):
    """Those that no document or example before this one has."""
    earlier = {command for name in list(COMMANDS)[:list(COMMANDS).index(source)] for command in COMMANDS[name]}
    commands = [command for command in COMMANDS[source] if command not in earlier and is_run(command)]
    for command in commands:
        shell.run(command)
    assert set(commands) == set(shell.ran)


def test_a_folder_with_a_damaged_picture_by_several_models(shell):
    Path('photos/b.jpg').write_bytes(b'no picture')
    program = [sys.executable, 'examples/custom_inference.py']
    result = subprocess.run([*program, 'photos', 'realesr-animevideov3', 'RealESRGAN'], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout == 'realesr-animevideov3: 1 of 2 pictures\n'
    first, second = (line for line in result.stderr.splitlines() if line.startswith('RealESRGAN: ') or 'b.jpg' in line)
    assert first.startswith('realesr-animevideov3: photos/b.jpg: ')
    assert second.startswith("RealESRGAN: model_name: unknown model 'RealESRGAN': choose from RealESRGAN_x4plus, ")
    usage = subprocess.run(program, capture_output=True, text=True)
    assert (usage.returncode, usage.stderr) == (2, 'usage: custom_inference.py FOLDER [MODEL ...]\n')


# ---- programs in Python ----

PROGRAMS = [document for document in DOCUMENTS if any(block.language == 'python' for block in document.blocks)]


@pytest.mark.parametrize('document', PROGRAMS, ids=lambda document: document.name)
def test_programs(shell, document, monkeypatch, capsys):
    if importlib.util.find_spec('gfpgan') is not None:
        stand_ins.take_real_photo(shell.folder)
        face_stand_ins.put_in_place(monkeypatch)
    module = types.ModuleType('document')
    monkeypatch.setitem(sys.modules, 'document', module)
    for number, block in enumerate(block for block in document.blocks if block.language == 'python'):
        if 'FaceEnhancer' in block.text and importlib.util.find_spec('gfpgan') is None:
            continue
        shutil.rmtree('results', ignore_errors=True)
        exec(compile(block.text, f'{document.name}, block {number + 1}', 'exec'), vars(module))
        if 'enhance(' in block.text:
            assert (module.large.shape, module.mode) == ((512, 512, 3), 'RGB')
            assert np.ptp(module.large) > 0
        for result in re.findall(r'upscale_(?:pictures|videos)\((\[.*?\])', block.text):
            source = Path(ast.literal_eval(result)[0])
            names = [path.stem for path in (source.iterdir() if source.is_dir() else [source])]
            assert {f'{name}_out' for name in names} <= {path.stem for path in Path('results').iterdir()}
    if 'case Outcome' in document.text:
        assert 'results/film_out.mp4 is finished' in capsys.readouterr().out
