"""The video examples of the user's guide (sections 6.2, 7.2, 8.1 and 8.2), as they stand there."""
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import inference_realesrgan_video
from realesrgan.archs.rrdbnet_arch import RRDBNet
from tests.support import clips, face_stand_ins
from tests.support.clips import EXACT, make, picture, sound, video

SCRIPT = 'python inference_realesrgan_video.py'
ANIME = f'{SCRIPT} -n realesr-animevideov3 '
EXAMPLES = {
    '6.2 anime': ANIME + '-i input_video.mp4 -o results',
    '6.2 several processes': ANIME + '-i long_video.mp4 -o results --num_process_per_gpu 2 -t 200 --fps 60',
    '6.2 frames first': f'{SCRIPT} -n RealESRGAN_x4plus_anime_6B -i anime_video.mp4 -o results --extract_frame_first '
                        '--fp32',
    '7.2 speed': ANIME + '-i video.mp4 -o results --num_process_per_gpu 2 -t 400',
    '8.1 ffmpeg': ANIME + '-i video.mp4 --ffmpeg_bin /usr/local/bin/ffmpeg',
    '8.2 large': ANIME + '-i large_video.mp4 -o results --extract_frame_first -t 300',
}
FACES = f'{SCRIPT} -n RealESRGAN_x4plus -i movie.mp4 -o results --face_enhance'


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the videos that the guide names and small stand-ins for the weights in weights/."""
    monkeypatch.chdir(tmp_path)
    Path('weights').mkdir()
    clips.save_network('weights/realesr-animevideov3.pth')
    torch.manual_seed(0)
    torch.save({'params_ema': RRDBNet(3, 3, 4, 8, 1, 4).state_dict()}, 'weights/RealESRGAN_x4plus_anime_6B.pth')
    film = make(tmp_path / 'input_video.mp4', *picture('32x24', seconds='0.5'), *sound('0.5'), *EXACT)
    for name in ('movie', 'long_video', 'anime_video', 'video', 'large_video'):
        Path(f'{name}.mp4').write_bytes(film.read_bytes())
    return tmp_path


@pytest.mark.parametrize('command', EXAMPLES.values(), ids=EXAMPLES.keys())
def test_example(workplace, command):
    command = command.replace('/usr/local/bin/ffmpeg', shlex.quote(clips.FFMPEG.ffmpeg))  # wherever it is here
    arguments = shlex.split(command)[2:]
    assert inference_realesrgan_video.main(arguments) == 0
    source = Path(arguments[arguments.index('-i') + 1])
    result = video(f'results/{source.stem}_out.mp4')
    assert (result['size'], result['frames']) == ((128, 96), 30 if '--fps' in arguments else 12)
    assert result['r_frame_rate'] == ('60/1' if '--fps' in arguments else '24/1')
    assert clips.packets(f'results/{source.stem}_out.mp4', 'a:0') == clips.packets(source, 'a:0')
    assert [path.name for path in Path('results').iterdir()] == [f'{source.stem}_out.mp4']


@face_stand_ins.needs_gfpgan
def test_the_example_with_faces(workplace, monkeypatch):
    face_stand_ins.save_small_networks(Path('weights'))
    clips.save_network('weights/RealESRGAN_x4plus.pth')
    face_stand_ins.put_in_place(monkeypatch)
    shutil.copy('video.mp4', 'movie.mp4')
    assert inference_realesrgan_video.main(shlex.split(FACES)[2:]) == 0
    assert video('results/movie_out.mp4')['frames'] == 12
