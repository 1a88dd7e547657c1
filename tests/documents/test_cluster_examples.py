"""The examples for Slurm and Kubernetes, as far as they can be tried on one machine."""
from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import inference_realesrgan_video
from tests.support import clips
from tests.support.markdown_files import PROJECT

EXAMPLES = PROJECT / 'examples'
# Stands for Slurm's own, on a machine that is the job's only node: runs what follows its options.
SRUN = '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n'


@pytest.mark.xdist_group('ray')
@pytest.mark.skipif(sys.platform != 'linux', reason='Slurm runs on Linux')
def test_the_slurm_script_on_one_node(tmp_path):
    pytest.importorskip('ray')
    for name in ('inference_realesrgan_video.py', 'realesrgan'):
        (tmp_path / name).symlink_to(PROJECT / name)
    (tmp_path / 'bin').mkdir()
    for name, text in (('srun', SRUN), ('scontrol', '#!/bin/sh\necho localhost\n')):
        (tmp_path / 'bin' / name).write_text(text)
        (tmp_path / 'bin' / name).chmod(0o755)
    clips.make(tmp_path / 'films/a.mp4', *clips.numbered(seconds='1'), *clips.EXACT)
    folders = tmp_path / 'bin', Path(sys.executable).parent, os.environ['PATH']
    with subprocess.Popen(
        ['bash', EXAMPLES / 'slurm.sh', '-i', 'films', '-o', 'results', '-s', '2'], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, env={
            **os.environ, 'PATH': os.pathsep.join(map(str, folders)), 'SLURM_JOB_NODELIST': 'localhost',
            'SLURM_JOB_ID': str(os.getpid()), 'SLURM_JOB_NUM_NODES': '1', 'SLURM_CPUS_ON_NODE': '1'}) as process:
        try:
            said = ''
            while (line := process.stdout.readline()) and '1 done, 0 failed' not in line:
                said += line
            assert '1 done, 0 failed' in line, said
            assert process.wait(30) == 0
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # as Slurm ends what a job has left
    result = clips.video(tmp_path / 'results/a_out.mp4')
    assert (result['frames'], result['width'], result['height']) == (25, 128, 96)


def test_the_manifest_of_kubernetes():
    job = yaml.safe_load((EXAMPLES / 'kuberay.yaml').read_text())
    cluster = job['spec']['rayClusterSpec']
    program, script, *arguments = shlex.split(job['spec']['entrypoint'])
    assert (program, script) == ('python', '/srv/inference_realesrgan_video.py')
    args = inference_realesrgan_video.build_parser().parse_args(arguments)
    assert args.cluster == 'auto'
    assert args.output.startswith(args.input[0])
    pinned = re.search(r'^ray==(.+)$', (PROJECT / 'constraints.txt').read_text(), re.M)[1]
    assert cluster['rayVersion'] == pinned
    pods = [cluster['headGroupSpec'], *cluster['workerGroupSpecs']]
    for pod in pods:
        spec = pod['template']['spec']
        [container], [volume] = spec['containers'], spec['volumes']
        assert container['image'] == 'realesrgan-ray'
        assert container['volumeMounts'] == [{'name': volume['name'], 'mountPath': args.input[0]}]
    assert 'WORKDIR /srv\n' in (PROJECT / 'Dockerfile').read_text()
