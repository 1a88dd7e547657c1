"""Pictures and videos on a cluster of two nodes; others come and go."""
from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan import version
from realesrgan.errors import ClusterError
from realesrgan.files import find_user_folder, hash_samples
from realesrgan.models import FACE_MODELS
from realesrgan.options import UpsamplerOptions
from realesrgan.pool import cluster as clusters
from realesrgan.videos.worker import explain_other_ffmpeg
from realesrgan.weights.sources import UrlFile
from tests.support import broken_steps, clips
from tests.support.broken_steps import VIDEO_STEPS, describe
from tests.support.clips import files
from tests.support.pool_workers import Meeting, Whereabouts, WhichNode

PROJECT = Path(__file__).parents[2]
pytestmark = [pytest.mark.skipif(sys.platform != 'linux', reason='clusters are tested on Linux'),
              pytest.mark.xdist_group('ray')]


@pytest.fixture(scope='session')
def network(tmp_path_factory):
    return clips.save_network(tmp_path_factory.mktemp('networks') / 'plain.pth', plain=True)


@pytest.fixture
def run(run_script, network, cluster):
    """Run a script, on the cluster unless told otherwise."""
    return lambda *arguments, script=inference_realesrgan_video, where=('--cluster', cluster.address): run_script(
        script, '--model_path', network, *arguments, *where)


def run_all(pool, tasks):
    return [result for _, result in pool.map_unordered(tasks, lambda task, note: None)]


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).iterdir())}


def read_report(path):
    """The number of frames of a report's only video, what was found in some of them, and the device."""
    [file] = json.loads(Path(path).read_text())['files']
    return file['frames'], sorted(file['samples'], key=lambda sample: sample['frame']), file['device']


def make_film(path, seconds='4'):
    return clips.make(path, *clips.numbered(seconds=seconds), *clips.sound(seconds), *clips.EXACT)


# ---- the same results ----

def test_a_video_and_pictures_are_the_same_as_on_one_machine(run, tmp_path, network):
    """So are the comparison and the report; and nodes keep the weights that they were sent."""
    make_film(tmp_path / 'a.mp4', '2')
    (tmp_path / 'in').mkdir()
    for index in range(24):
        noise = np.random.default_rng(index).integers(0, 256, (9, 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'in/{index}.png'), noise)
    for where, folder in ((None, 'cluster'), ((), 'one')):
        more = {} if where is None else {'where': where}
        status, _, err = run('-i', 'a.mp4', '--chunk', '0.5', '-o', folder, '--report', f'{folder}.json', '--compare',
                             **more)
        assert status == 0, err
        status, out, err = run('-i', 'in', '-o', folder, script=inference_realesrgan, **more)
        assert (status, out.startswith('24 done, 0 failed')) == (0, True), err
        if where is None:
            assert 'is left out' not in err
    assert hashes('cluster') == hashes('one')
    assert len(hashes('one')) == 26
    assert clips.numbers('cluster/a_out.mp4') == [number % 27 for number in range(50)]
    assert read_report('cluster.json') == read_report('one.json')
    frames, samples, device = read_report('cluster.json')
    assert (frames, len(samples), device) == (50, 12, 'cpu')
    cache = find_user_folder('cache') / 'cluster-weights'
    digest = hashlib.sha256(hashlib.sha256(Path(network).read_bytes()).hexdigest().encode()).hexdigest()[:16]
    assert files(cache / digest) == ['plain.pth']
    assert (cache / digest / 'plain.pth').read_bytes() == Path(network).read_bytes()


def test_one_input_that_fails_costs_no_other(cluster, network, tmp_path, monkeypatch, capfd):
    """A bug at each step, here and on the nodes."""
    monkeypatch.chdir(tmp_path)
    videos = broken_steps.make_videos(tmp_path)
    here, there = {'planning': 32, 'joining': 96}, {'decoding': 48, 'encoding': 64}
    broken_steps.break_videos(here, monkeypatch.setattr)
    monkeypatch.setattr('realesrgan.videos.worker.ChunkWorker',
                        partial(broken_steps.build_chunk_worker, widths=there))
    status = inference_realesrgan_video.main(
        ['--model_path', network, '--cluster', cluster.address, '-v', '-i', *videos, '-s', '1'])
    out, err = capfd.readouterr()
    assert (status, '1 done, 4 failed' in out) == (1, True), err
    lines = describe(VIDEO_STEPS, here | there, 'mp4')
    assert sorted(line for line in err.splitlines() if line.startswith('error: ')) == lines
    assert err.count('in fail_at') >= len(lines)
    assert [name for name in files('results') if '/' not in name] == ['80_out.mp4']


# ---- nodes, and drivers, that come and go ----

def test_a_node_that_joins_takes_part_and_one_that_dies_costs_its_task_only(cluster, make_ray_pool, tmp_path, caplog):
    import ray
    before = {node['NodeID'] for node in ray.nodes()}
    joined, leaving, results = [], [], []

    def join(_task, _note):
        if not joined:
            joined.append(cluster.add_node(num_cpus=1))
    with make_ray_pool(Meeting) as pool:
        for _, node in pool.map_unordered([(tmp_path, 3)] * 40, join):
            if node not in before and not leaving:
                (tmp_path / f'doomed {node}').touch()
                leaving.append(threading.Thread(target=cluster.remove_node, args=joined, kwargs={
                    'allow_graceful': False}))
                leaving[0].start()
            results.append(node)
        leaving[0].join()
    assert (len(results), len(set(results))) == (40, 3)
    lines = [record.getMessage() for record in caplog.records if ' was lost: ' in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].endswith(', 3) is tried again')


def test_a_node_that_dies_takes_its_idle_workers_with_it(cluster, make_ray_pool, caplog):
    node = cluster.add_node(num_cpus=2)
    with make_ray_pool(WhichNode) as pool:
        assert len(set(run_all(pool, [0.5] * 24))) == 3
        cluster.remove_node(node, allow_graceful=False)
        time.sleep(2)
        assert len(run_all(pool, [0.2] * 2)) == 2
    lost = f'a worker on node {node.node_id[:6]} was lost: '  # and not one of an earlier test's node, which dies late
    assert len([record for record in caplog.records if record.getMessage().startswith(lost)]) <= 2


def test_a_node_that_is_busy_with_other_work_holds_nothing_up(cluster, make_ray_pool, caplog, monkeypatch):
    import ray

    from realesrgan.pool import ray_tasks
    monkeypatch.setattr(ray_tasks, '_SECONDS_UNTIL_LOGGED', 1)
    caplog.set_level('INFO', 'realesrgan')

    class Holder:
        def find_node(self):
            return ray.get_runtime_context().get_node_id()
    holder = ray.remote(Holder).options(num_cpus=1).remote()
    busy = ray.get(holder.find_node.remote())
    with make_ray_pool(WhichNode) as pool:
        assert len(set(run_all(pool, [0.5] * 8))) == 1
    # One task, and the busy node comes first.
    with make_ray_pool(WhichNode, lambda places: sorted(places, key=lambda place: place.node != busy)) as pool:
        assert run_all(pool, [0.1]) != [busy]
    ray.kill(holder)
    lines = [record.getMessage() for record in caplog.records if 'waiting for room' in record.getMessage()]
    assert lines
    assert all(line.endswith(', which is busy with other work') for line in lines)


@pytest.fixture
def end_early(tmp_path, network, start_program):
    """Start the script, and send it a signal when it has made so many parts; return what it said and its status.

    It gets a folder for temporary files of its own.
    """
    (tmp_path / 'tmp').mkdir()

    def end_early(number, how, *where):
        command = [sys.executable, PROJECT / 'inference_realesrgan_video.py', '--model_path', network, '-i', 'a.mp4',
                   '--chunk', '0.5', *where]
        process = start_program(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                                env=os.environ | {'TMPDIR': str(tmp_path / 'tmp')})
        deadline, before = time.monotonic() + 120, count_parts(tmp_path)
        while count_parts(tmp_path) < before + number and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(how)
        return process.communicate()[1], process.returncode
    return end_early


def count_parts(folder):
    return len(list((folder / 'results/a_out_parts').glob('0*.mp4')))


def test_each_goes_on_where_the_other_has_ended(run, tmp_path, end_early, cluster):
    """One machine, a cluster whose driver is killed, terminated and interrupted, and one machine again."""
    make_film(tmp_path / 'a.mp4', '8')
    end_early(2, signal.SIGKILL)
    end_early(1, signal.SIGKILL, '--cluster', cluster.address)
    left = files('tmp')
    for how, expected in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        wait_until_free()
        err, status = end_early(1, how, '--cluster', cluster.address)
        assert status == expected
        assert (err.splitlines()[-1] == 'error: interrupted') == (how == signal.SIGINT)
        assert 'of an earlier run' in err
        assert 'kept; the same command resumes' in err
        assert 'Traceback' not in err
        assert '***' not in err
    assert files('tmp') == left
    wait_until_free()
    whole = count_parts(tmp_path)
    assert whole >= 5
    status, _, err = run('-i', 'a.mp4', '--chunk', '0.5', where=())
    assert status == 0, err
    assert f'reusing {whole} parts of an earlier run' in err
    assert clips.numbers('results/a_out.mp4') == [number % 27 for number in range(200)]
    assert [name for name in files('results') if not name.startswith('.realesrgan-')] == ['a_out.mp4']


def wait_until_free():
    """Wait until Ray has ended all actors, which may finish what they have."""
    import ray
    deadline = time.monotonic() + 60
    while ray.available_resources().get('CPU') != 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources()['CPU'] == 2


# ---- what can't take part ----

def test_nodes_of_another_version_are_named_and_left_out(run, tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(version, '__version__', '0.9')
    status, _, err = run('-i', 'a.png', script=inference_realesrgan)
    assert status == 1
    assert err.count('is left out: it has Real-ESRGAN 2.0.0, not 0.9') == 2
    assert err.splitlines()[-1] == 'error: no node of the cluster can take part'


def inspect(folder, *, refuse=lambda: None, **files):
    samples = {folder / name: sample for name, sample in files.items()}
    return clusters.inspect(version.__version__, str(folder), folder / 'token', samples, refuse)


def test_why_a_node_can_not_take_part(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert inspect(tmp_path / 'nothing') == f'it does not see the folder {tmp_path}/nothing'
    assert inspect(tmp_path) == f'it does not see the output folder {tmp_path}'
    (tmp_path / 'token').mkdir()
    (tmp_path / 'film').write_bytes(b'one')
    assert inspect(tmp_path, film=hash_samples(tmp_path / 'film', 1 << 16)) is None
    assert inspect(tmp_path, film='other') == f'its {tmp_path}/film is another file'
    assert inspect(tmp_path, other='x') == f'it does not see {tmp_path}/other'
    assert inspect(tmp_path, refuse=lambda: 'no ffmpeg') == 'no ffmpeg'
    assert explain_other_ffmpeg('ffmpeg', clips.FFMPEG.version) is None
    own = '.'.join(map(str, clips.FFMPEG.version))
    assert explain_other_ffmpeg('ffmpeg', (1, 2)) == f'it has ffmpeg {own}, not 1.2'
    assert 'there is no /nowhere/ffmpeg' in explain_other_ffmpeg('/nowhere/ffmpeg', (1, 2))


@pytest.mark.parametrize('script', [inference_realesrgan, inference_realesrgan_video])
def test_without_ray_or_a_cluster_it_is_one_line(run_script, tmp_path, monkeypatch, script):
    clips.make(tmp_path / 'a.mp4', *clips.picture('32x16', seconds='0.2'), *clips.EXACT)
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    name = 'a.png' if script is inference_realesrgan else 'a.mp4'
    monkeypatch.setattr(clusters, '_SECONDS_TO_CONNECT', 1)
    command = '-n', 'realesr-animevideov3', '-i', name, '--cluster', '127.0.0.1:1'
    import ray
    monkeypatch.setattr(ray, 'is_initialized', lambda: False)
    status, _, err = run_script(script, *command)
    assert status == 1
    assert err.splitlines()[-1] == ('error: there is no cluster at 127.0.0.1:1: [Errno 111] Connection refused; ray '
                                    'start --head makes one')
    monkeypatch.setenv('RAY_ADDRESS', '127.0.0.1:1')  # as if a cluster had gone
    status, _, err = run_script(script, *command[:-1], 'auto')
    assert (status, 'error: there is no cluster at auto: [Errno 111] Connection refused' in err) == (1, True)
    monkeypatch.setitem(sys.modules, 'ray', None)
    status, _, err = run_script(script, *command)
    assert status == 1
    assert err.splitlines()[-1].endswith('--cluster needs ray: pip install ray')


def test_streams_are_no_files_of_a_cluster(run):
    for arguments in (['-i', '-'], ['-i', 'a.png', '-o', '-']):
        status, _, err = run(*arguments, script=inference_realesrgan)
        assert (status, err) == (2, 'error: --cluster needs files that all its nodes see, not - for stdin or stdout\n')


@pytest.mark.parametrize('option', [['--cpus_per_worker', '2']])
def test_options_that_need_a_cluster(run_script, option):
    for script in inference_realesrgan, inference_realesrgan_video:
        assert run_script(script, '-i', 'a', *option) == (2, '', f'error: {option[0]} needs --cluster\n')


def test_workers_are_counted_by_what_a_node_has():
    def measure(resources, *, has_gpus=False, cpus_per_worker=None, workers_per_gpu=1):
        node = {'NodeID': 'abcdefgh', 'NodeManagerHostname': 'host', 'NodeManagerAddress': '10.0.0.2',
                'Resources': resources}
        found = clusters.Cluster(None, None, cpus_per_worker, workers_per_gpu).list_places(
            node, has_gpus=has_gpus)
        assert all(place.workers == len(found) for place in found)
        return (len(found), found[0].cpus, found[0].gpus) if found else (0,)
    assert measure({'CPU': 16.0}) == (1, 16, 0)
    assert measure({'CPU': 16.0}, cpus_per_worker=5) == (3, 5, 0)
    assert measure({'CPU': 16.0, 'GPU': 2.0}, has_gpus=True) == (2, 1, 1)
    assert measure({'CPU': 16.0, 'GPU': 2.0}, has_gpus=True, workers_per_gpu=2) == (4, 1, 0.5)
    assert measure({'CPU': 1.0, 'GPU': 2.0}, has_gpus=True) == (2, 0.5, 1)
    assert measure({'GPU': 1.0}, has_gpus=True) == (1, 0, 1)
    assert measure({'CPU': 16.0}, has_gpus=True)[0] == 0
    assert measure({'CPU': 16.0}, has_gpus=True, cpus_per_worker=8)[0] == 2
    assert measure({})[0] == 0


def test_what_is_sent_to_nodes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'weights').mkdir()
    names = [file.name for file in FACE_MODELS['GFPGANv1.3']]
    for name in (*(f'weights/{name}' for name in names), 'my.pth'):
        (tmp_path / name).write_text(name)

    class Ray:
        put = staticmethod(bytes.decode)
    sent, model = clusters.send_weights(Ray, UpsamplerOptions(model_path='my.pth', face_enhance=True))
    assert {name: content for name, (_, content) in sent.items()} == {
        'my.pth': 'my.pth', **{name: f'weights/{name}' for name in names}}
    assert sent['my.pth'][0] == hashlib.sha256(b'my.pth').hexdigest()
    assert model == 'my.pth'


def test_weights_of_a_url_are_sent_under_their_own_names(tmp_path, monkeypatch):
    url = 'https://host/realesr-general-x4v3.pth'
    monkeypatch.setenv('REALESRGAN_WEIGHTS', str(tmp_path))
    for name in (UrlFile(url).target.name, UrlFile(url).target.name.replace('general', 'general-wdn')):
        (tmp_path / name).write_bytes(b'weights')
    options = UpsamplerOptions(model_path=url, denoise_strength=0.3)
    sent, model = clusters.send_weights(SimpleNamespace(put=bytes), options)
    assert list(sent) == ['realesr-general-x4v3.pth', 'realesr-general-wdn-x4v3.pth']
    assert model == 'realesr-general-x4v3.pth'


def test_each_folder_is_looked_at_and_some_more_files():
    paths = [Path(f'{folder}/{number}') for folder in 'ab' for number in range(100)]
    chosen = clusters.choose_samples(paths)
    assert {Path('a/0'), Path('b/0')} < set(chosen)
    assert 18 <= len(chosen) <= 22
    assert clusters.choose_samples([]) == []
    assert clusters.choose_samples(paths[:1]) == paths[:1]


def test_a_server_that_is_no_head_of_ray(http_server):
    address = http_server.url.removeprefix('http://')
    with pytest.raises(ClusterError, match=f'^there is no cluster at {address}: what answers there is no head of Ray;'):
        clusters.connect(SimpleNamespace(), address)


def test_names_that_ray_can_not_be_told(monkeypatch):
    def fail(**options):
        raise UnicodeEncodeError('utf-8', '\udcff', 0, 1, 'surrogates not allowed')
    with pytest.raises(ClusterError, match='^Ray can\'t be told names that are not UTF-8; give the folder that'):
        clusters.connect(SimpleNamespace(init=fail), 'local')


def test_more_cores_than_a_node_has():
    cluster = clusters.Cluster(None, None, 8, 1)
    assert cluster.explain_no_room({'Resources': {'CPU': 4.0}}) == (
        'it has 4 of the 8 cores of --cpus_per_worker')
    assert cluster.explain_no_room({'Resources': {'CPU': 8.0}}) is None


def test_no_node_at_all(make_ray_pool):
    import ray
    with make_ray_pool(Whereabouts, lambda places: []) as pool, pytest.raises(
            ClusterError, match='^no node is left that can take part$'):
        run_all(pool, [0.01])
    assert ray.is_initialized()
