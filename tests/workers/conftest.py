"""A cluster of three nodes on this machine."""
from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
os.environ['RAY_AUTH_MODE'] = 'disabled'  # whether or not this user has a token


@pytest.fixture(scope='module')  # other tests count the processes that are left
def cluster():
    """Three nodes of one core, and a connection of this process to them."""
    ray = pytest.importorskip('ray')
    from ray.cluster_utils import Cluster
    cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1, 'include_dashboard': False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={
        'env_vars': {'PYTHONPATH': f'{PROJECT}:{Path(__file__).parent}:{PROJECT / "tests"}'}})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def make_ray_pool(cluster):
    """Make a pool on all nodes."""
    import ray

    from realesrgan.workers.ray_pool import Node, RayPool

    def find_nodes():
        return [Node(node['NodeID'], node['NodeID'][:6], int(node['Resources'].get('CPU', 0)))
                for node in ray.nodes() if node['Alive']]
    return lambda build: RayPool(build, find_nodes)
