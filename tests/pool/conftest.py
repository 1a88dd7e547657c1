"""A cluster of two nodes on this machine."""
from __future__ import annotations

import logging
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
NODE = {'num_cpus': 1, 'include_log_monitor': False}  # nobody reads what that would send

_clusters = []  # the one that runs


@pytest.fixture
def cluster():
    """Two nodes of one core, and a connection of this process to them; all tests in a row share them."""
    ray = pytest.importorskip('ray')
    from ray.cluster_utils import Cluster
    if not _clusters:
        started = Cluster(initialize_head=True, head_node_args=NODE | {'include_dashboard': False})
        started.add_node(**NODE)
        ray.init(address=started.address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={
            'env_vars': {'PYTHONPATH': str(PROJECT)}})
        _clusters.append(started)
    nodes = set(_clusters[0].worker_nodes)
    yield _clusters[0]
    if _clusters[0].worker_nodes != nodes:  # a test has failed
        end_cluster()


def end_cluster():
    import ray
    ray.shutdown()
    _clusters.pop().shutdown()


@pytest.hookimpl(trylast=True)  # after the fixtures of the test
def pytest_runtest_teardown(nextitem):
    """End the cluster after the last test on it: others count the processes that are left."""
    if _clusters and (nextitem is None or nextitem.get_closest_marker('xdist_group') is None):
        end_cluster()


@pytest.fixture
def make_ray_pool(cluster):
    """Make a pool on all nodes."""
    import ray

    from realesrgan.pool.ray_tasks import NodePlace, RayPool

    def find_places():
        return [NodePlace(node=node['NodeID'], name=node['NodeID'][:6])
                for node in ray.nodes() if node['Alive'] for _ in range(int(node['Resources'].get('CPU', 0)))]
    return lambda build, choose=list, **more: RayPool(build, lambda: choose(find_places()), **more)
