"""Find the islands of a candidate: emulate it, rank its nodes, search, signature by signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trt_pipeline.calibration.ranges import RangesFile, SignatureRanges
from trt_pipeline.conversion import canonical, halves
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.islands import gate as gates
from trt_pipeline.islands import rank as ranking
from trt_pipeline.islands.emulate import Emulation, computing_nodes
from trt_pipeline.islands.gate import Judged, SearchGate
from trt_pipeline.islands.islands import Islands, SignatureIslands
from trt_pipeline.islands.search import Counting, search
from trt_pipeline.model.contract import Contract, SignatureContract
from trt_pipeline.model.low_precision import LowPrecision
from trt_pipeline.parity.tolerance import Gate
from trt_pipeline.samples.store import Samples

Progress = Callable[[int, int], None]
# Tokens flip by chance: on few samples a search finds the set that is lucky on them.
SAMPLES = 256
# The sweep runs once a node, so on few samples, and in groups where nodes are many.
_SWEEP_BATCHES = 2
_SWEEP_EVALUATIONS = 256


def find(model: Path, tags: Sequence[str], candidate: str, precision: str, low: Mapping[str, LowPrecision],
         ranges: RangesFile, samples: Mapping[str, Samples], contract: Contract, gate: Gate,
         floors: Mapping[str, Mapping[str, float]], *, budget: int, margin: float = 0.8,
         symmetric: bool = False, per_channel: bool = True,
         progress: Progress = lambda done, total: None) -> Islands:
    """The smallest sets of nodes to raise with which an emulation of ``candidate`` meets its gate.

    Every signature is searched on its own samples and outputs.

    Args:
        low: signature -> what the candidate computes in ``precision`` when nothing is raised; signatures
            without nodes, samples or ranges are left out.
        samples: by signature, of calibration: what islands are found on must not be what they are judged on.
        floors: signature -> output -> the original's own noise.
        budget: evaluations of each signature's search, the sweep not counted.
        margin: how much of the bound may be used up, because other samples may need more.
        symmetric, per_channel: see `emulate.Emulation`.
        progress: called with (evaluations done, at most) over all signatures.

    Raises:
        Unsupported: a signature cannot be frozen.
        KeyError: ``low`` names a node that the canonical graph lacks.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(model), tags=list(tags))
    # fp16 and bf16 are not about weights alone: there, all that computes is in question.
    computing = precision in halves.LARGEST
    chosen = [name for name, one in low.items()
              if one.nodes and len(samples.get(name, ())) and name in ranges.signatures]
    graphs = {name: canonical.canonical(loaded.signatures[name]) for name in chosen}
    nodes = {name: [node for node in (computing_nodes(graph) if computing else low[name].nodes)
                    if node not in low[name].kept and node not in low[name].others] for name, graph in graphs.items()}
    counting = Counting(progress, sum(min(len(nodes[name]), _SWEEP_EVALUATIONS) + budget for name in chosen))
    found = {}
    for name, graph in graphs.items():
        found[name] = find_in_graph(
            graph, contract.signature(name), precision, nodes[name], ranges.signatures[name],
            gates.batches(contract.signature(name), samples[name], SAMPLES), gate, floors.get(name, {}),
            budget=budget, margin=margin, symmetric=symmetric, per_channel=per_channel, progress=counting.step)
    return Islands(candidate=candidate, precision=precision, model_digest=ranges.model_digest, signatures=found)


def find_in_graph(graph: SignatureGraph, signature: SignatureContract, precision: str, nodes: Sequence[str],
                  ranges: SignatureRanges, batches: list[gates.Feeds], gate: Gate, floors: Mapping[str, float], *,
                  budget: int, margin: float, symmetric: bool = False, per_channel: bool = True,
                  progress: Callable[[], None] = lambda: None) -> SignatureIslands:
    """`find` for one signature, from its canonical graph and ``batches`` of feeds."""
    # Symmetric Q/DQ stand before inputs only; the CPU's chains of convolutions stay in 8 bits.
    outputs = not symmetric and any(node.op in ("Conv2D", "DepthwiseConv2dNative") for node in graph.graph_def.node)
    emulation = Emulation(graph, ranges, precision, nodes, outputs=outputs, symmetric=symmetric,
                          per_channel=per_channel)
    everything = frozenset(nodes)
    judging = SearchGate(signature, gate, precision, floors, batches, lambda feeds: emulation(feeds, everything))

    def evaluate(raised: frozenset[str]) -> Judged:
        progress()
        return judging.judge_raised(lambda feeds: emulation(feeds, raised), raised).within(margin)

    def only_low(group: frozenset[str]) -> Judged:
        return judging.judge(lambda feeds: emulation(feeds, everything - group), _SWEEP_BATCHES)

    beyond = ranking.out_of_reach(graph, ranges, precision, nodes)
    costs = ranking.rank(nodes, only_low, _SWEEP_EVALUATIONS, beyond, lambda done, total: progress())
    order = [cost.node for cost in costs]
    # An infinity may do no harm on these samples and ruin others, so none is taken out of the answer again.
    return SignatureIslands.of_search(search(order, evaluate, budget, kept=beyond), order, tried=False)
