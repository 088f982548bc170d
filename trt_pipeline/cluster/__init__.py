"""The candidates of a run judged on the machines of a Ray cluster; nothing else of the run is done there.

`judges` is the end on the machine that runs the pipeline, `node` the one on the machines that judge, and `stage_store`
stands between them: what one has finished, none does again. Ray itself is imported when it is first needed.
"""

from trt_pipeline.cluster.settings import Cluster

__all__ = ["Cluster"]
