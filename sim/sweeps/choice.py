"""Who runs the blocks of a sweep: read from the options of a command."""

from __future__ import annotations

from saccade.proto.distribution import install_hint
from saccade.proto.errors import SweepError
from saccade.sim.sweeps.local_workers import LocalWorkers
from saccade.sim.sweeps.workers import Workers


def choose_workers(jobs: int, cluster: str | None, *, threads: int) -> Workers:
    """Return the processes of this machine, or a cluster if one is named.

    Args:
        jobs: Number of processes of this machine.
        cluster: Address of a Ray cluster, see :class:`saccade.sim.sweeps.ray_cluster.RayCluster`; None = this machine.
        threads: Threads of a block's engine, and so the cores that it takes of a cluster; 0 counts as one.

    Raises:
        SweepError: Ray is not installed, or ``jobs`` is below 1.
        UnavailableError: Nobody answers at the address; after a minute at most.
    """
    if cluster is None:
        return LocalWorkers(jobs)
    try:
        from saccade.sim.sweeps.ray_cluster import RayCluster  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SweepError(
            f"expected Ray for --cluster {cluster}, found it is not installed ({error}): "
            f"{install_hint('cluster')}."
        ) from error
    return RayCluster(cluster, cores=max(1, threads))
