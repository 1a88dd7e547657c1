"""Figures for Prometheus."""
from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from .jobs import STATES, Job, JobQueue

_SECONDS = 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000


class Metrics:
    """Counts requests and jobs of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter('realesrgan_requests', 'Requests by route, method and status.',
                                ['route', 'method', 'status'], registry=self._registry)
        self._jobs = Counter('realesrgan_jobs_ended', 'Jobs by how they ended.', ['state'], registry=self._registry)
        self._seconds = Histogram('realesrgan_job_seconds', 'Seconds that jobs ran.', buckets=_SECONDS,
                                  registry=self._registry)
        self._megapixels = Counter('realesrgan_megapixels', 'Pixels of upscaled pictures and frames, in millions.',
                                   registry=self._registry)

    def count_job(self, job: Job) -> None:
        """Count a job that has ended."""
        self._jobs.labels(job.state).inc()
        self._seconds.observe(job.seconds)
        if job.outcome is not None:
            width, height = job.outcome.size
            self._megapixels.inc(width * height * job.outcome.frames / 1e6)

    def watch(self, queue: JobQueue) -> None:
        """Report how many jobs of a queue are in each state."""
        class Jobs:
            def collect(self) -> Iterator[GaugeMetricFamily]:
                counts = queue.count_states()
                family = GaugeMetricFamily('realesrgan_jobs', 'Jobs that are known, by state.', labels=['state'])
                for state in STATES:
                    family.add_metric([state], counts[state])
                yield family
        self._registry.register(Jobs())

    def render(self) -> bytes:
        """Return all figures as Prometheus reads them."""
        return generate_latest(self._registry)
