"""Which Ray cluster judges, and how much of a machine one candidate gets."""

from __future__ import annotations

from pydantic import Field

from trt_pipeline.frozen import Frozen


class Cluster(Frozen):
    """A Ray cluster. The machine that runs the pipeline has to be one of its nodes (``ray start --address=...``)."""

    address: str | None = None
    """``host:port``, or ``auto`` for the one that this machine is a node of; by default what RAY_ADDRESS names, or a
    cluster of this machine alone, which is started and ends with the run."""
    cpus: int | None = Field(None, ge=1)
    """Cores for each candidate, which no other candidate uses meanwhile. By default all of the smallest machine, or an
    equal share of them for each of its GPUs."""
    gpus: int | None = Field(None, ge=0)
    """GPUs for each candidate; by default one where the cluster has any, else none."""
