"""Cut a signature into a numeric core, which TensorRT can have, and what only TensorFlow on the host can do."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trt_pipeline.calibration.ranges import SignatureRanges
from trt_pipeline.conversion.canonical import root
from trt_pipeline.conversion.freeze import SignatureGraph
from trt_pipeline.conversion.split.hosts import Hosts, parameters
from trt_pipeline.conversion.split.parts import Part, unique
from trt_pipeline.conversion.split.places import Places, place
from trt_pipeline.conversion.split.shapes import Shapes, same_shape
from trt_pipeline.conversion.split.wiring import Tensor, Wiring, tensor_of
from trt_pipeline.conversion.tftrt import flops
from trt_pipeline.errors import Unsupported
from trt_pipeline.frozen import Frozen
from trt_pipeline.model.contract import Shape, SignatureContract, TensorContract
from trt_pipeline.model.nodes import copy_of, data_types
from trt_pipeline.model.scoped import Scope

if TYPE_CHECKING:
    from tensorflow.core.framework import graph_pb2, node_def_pb2

_CALL = re.compile(r"^(Stateful)?PartitionedCall(_\d+)?/")
_UNTIDY = re.compile(r"[^A-Za-z0-9_.\-]+")
_DT_STRING = 7
_NOT_NUMBERS = frozenset({"string", "resource", "variant"})
# What conditions become that are no function calls: tf.switch_case, and those of TensorFlow 1.
_BRANCHING = frozenset({"Switch", "RefSwitch", "_SwitchN", "Merge", "RefMerge"})
_MEASURES = frozenset({"Shape", "Size", "Rank"})


class HostOperation(Frozen):
    """An operation that stays in TensorFlow."""

    side: str
    """before or after the core."""
    op: str
    node: str
    why: str
    """Empty for what could be in the core and is small work that belongs to others'."""
    feeds: tuple[str, ...] = ()
    """Which of the outputs of what is before the core depend on it."""


@dataclass(frozen=True)
class Split:
    """A signature in parts.

    What a part takes is, by name, an input of the signature or an output of a part before it. An output that is
    the signature's own has its name there too, whichever part makes it.
    """

    before: SignatureGraph | None
    core: SignatureGraph
    contract: SignatureContract
    """Of the core: inputs and outputs by name, in the order in which ``core`` and its ONNX file have them."""
    after: SignatureGraph | None
    host: tuple[HostOperation, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    """Inputs of the core, as its graph calls their tensors, that ranges know by another name: that name."""

    @property
    def whole(self) -> bool:
        """Whether nothing is on the host."""
        return self.before is None and self.after is None

    def ranges(self, of_whole: SignatureRanges) -> SignatureRanges:
        """The signature's ranges under the names that tensors have in the core."""
        def with_aliases(ranges: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
            return ranges | {here: ranges[there] for here, there in self.renamed.items() if there in ranges}

        return SignatureRanges(ranges=with_aliases(of_whole.ranges), extents=with_aliases(of_whole.extents))


def split(graph: SignatureGraph, contract: SignatureContract, kept: Collection[str] = ()) -> Split:
    """Cut ``graph``, the canonical graph of the signature ``contract``, where it begins or ends in work for the host.

    The core's nodes keep their names. Its inputs and outputs have the signature's names where they are the
    signature's own, else the name of the node that makes them, made tidy.

    Args:
        kept: types of operations to leave on the host though ONNX has them.

    Raises:
        Unsupported: a loop has work for the host and weights in it, nothing with weights is left, or a tensor
            that crosses over has no known rank.
    """
    if both := contract.inputs.keys() & contract.outputs.keys():
        raise Unsupported(f"signature {contract.name} has an input and an output called {min(both)}: an engine's "
                          "names are one list")
    strings = any(t.dtype == "string" for t in (*contract.inputs.values(), *contract.outputs.values()))
    try:
        wiring = Wiring(graph.graph_def, graph.output_tensors)
        hosts = Hosts(graph, wiring, kept)
        if not hosts.why and not strings:
            return Split(None, _in_order(graph, contract), contract, None)
        _refuse_branching(wiring)
        graph_def = _measured_behind_strings(graph.graph_def, wiring, hosts)
        return _Cut(replace(graph, graph_def=graph_def), contract, kept).split()
    except Unsupported as error:
        raise Unsupported(f"signature {contract.name}: {error}") from None


def _in_order(graph: SignatureGraph, contract: SignatureContract) -> SignatureGraph:
    """``graph`` with its inputs and outputs in the contract's order, for that is how an engine's are counted."""
    return replace(graph, inputs={name: graph.inputs[name] for name in contract.inputs},
                   outputs={name: graph.outputs[name] for name in contract.outputs})


class _Cut:
    """One cut while it is made."""

    def __init__(self, graph: SignatureGraph, contract: SignatureContract, kept: Collection[str]) -> None:
        self.graph, self.contract = graph, contract
        self.wiring = Wiring(graph.graph_def, graph.output_tensors)
        self.hosts = Hosts(graph, self.wiring, kept)
        self.shapes = Shapes(graph.graph_def)
        self.own_inputs = {tensor_of(tensor): name for name, tensor in graph.inputs.items()}
        self.own_outputs = {name: tensor_of(tensor) for name, tensor in graph.outputs.items()}
        self.taken = set(contract.inputs) | set(contract.outputs)
        self.names: dict[Tensor, str] = {}
        self.same: dict[Tensor, Tensor] = {}

    def split(self) -> Split:
        places = place(self.wiring, self.hosts, self._work, self.shapes.rank)
        self.graph = replace(self.graph, graph_def=_measured_at_edges(self.graph.graph_def, self.wiring, places))
        made = {part: {name: t for name, t in self.own_outputs.items() if t[0] in nodes}
                for part, nodes in (("before", places.before), ("core", places.core), ("after", places.after))}
        # An output that is an input, or a constant.
        made["before"] |= {name: t for name, t in self.own_outputs.items() if self.wiring.is_source(t[0])}
        for part, nodes in (("before", places.before), ("core", places.core)):
            for name, tensor in made[part].items():
                self._note_same(name, tensor, nodes)
        after = self._part(places.after, made["after"].values())
        crossing = [tensor for tensor in after.fed if tensor[0] in places.core]
        core = self._part(places.core, [*made["core"].values(), *crossing])
        entering = [tensor for tensor in (*core.fed, *after.fed) if tensor[0] in places.before]
        before = self._part(places.before, [*made["before"].values(), *entering])
        core_outputs = self._outputs(made["core"], crossing)
        before_outputs = self._outputs(made["before"], list(dict.fromkeys(entering)))
        core_graph = self._graph(core, core_outputs)
        if not core_graph.inputs:
            raise Unsupported("the part of it that is for TensorRT depends on no input")
        host = self._described(places, before_outputs)
        if checks := [name for name in self.wiring.checks() if name in places.before]:
            before = self._part(places.before, [*before_outputs.values(), *((check, 0) for check in checks)])
            first = next(iter(before_outputs))
            before_outputs[first] = before.wait_for(before_outputs[first], checks)
        return Split(
            before=self._host_graph(before, before_outputs), core=core_graph,
            contract=self._core_contract(core, core_graph), after=self._host_graph(after, made["after"]),
            host=tuple(host),
            renamed=self._renamed(core))

    def _part(self, nodes: Collection[str], wanted: Collection[Tensor]) -> Part:
        return Part(self.graph.graph_def, nodes, wanted, lambda t: (self.shapes.dtype(t), self.shapes.of(t)), self.same)

    def _work(self, nodes: Collection[str]) -> float:
        """Operations of ``nodes`` on one sample; where that is nothing, how many weights they read."""
        ends = {tensor for name in self.wiring.order if name not in nodes
                for tensor in self.wiring.reads(name) if tensor[0] in nodes}
        ends |= {tensor for tensor in self.wiring.wanted if tensor[0] in nodes}
        part = self._part(nodes, ends)
        weights = sum(map(parameters, part.graph_def.node))
        return flops.count(part.graph_def, set())[1] or min(weights / 2**40, 0.5)

    def _note_same(self, name: str, output: Tensor, nodes: Collection[str]) -> None:
        """Let the output ``name`` stand for what it only passes on, so that this need not cross as well."""
        self.names.setdefault(output, name)
        tensor = output
        while tensor[0] in nodes and (node := self.wiring.nodes[tensor[0]]).op == "Identity":
            tensor = tensor_of(node.input[0])
            self.same.setdefault(tensor, output)

    def _renamed(self, core: Part) -> dict[str, str]:
        """Placeholders of the core -> the name that ranges know their tensor by."""
        scope = Scope("", self.graph.graph_def.node, None)
        known = {f"{placeholder}:0": root(scope, f"{maker}:{number}")
                 for (maker, number), placeholder in core.fed.items()}
        return {here: there for here, there in known.items() if here != there}

    def _outputs(self, own: dict[str, Tensor], crossing: list[Tensor]) -> dict[str, Tensor]:
        """The signature's own outputs, then what else leaves a part, each by its name."""
        return own | {self._name(tensor): tensor for tensor in crossing if self._name(tensor) not in own}

    def _name(self, tensor: Tensor) -> str:
        if tensor not in self.names:
            self.names[tensor] = unique(self._tidy(tensor), self.taken)
        return self.names[tensor]

    def _tidy(self, tensor: Tensor) -> str:
        node = self.wiring.nodes[tensor[0]]
        if (feature := self._feature(tensor)) is not None:
            return _UNTIDY.sub("_", feature) or "feature"
        name = _UNTIDY.sub("_", _CALL.sub("", node.name)).strip("_") or node.op
        return name if tensor[1] == 0 else f"{name}_{tensor[1]}"

    def _feature(self, tensor: Tensor) -> str | None:
        """What tf.Example calls the dense feature that ``tensor`` is."""
        from tensorflow.python.framework import tensor_util

        node = self.wiring.nodes[tensor[0]]
        if node.op != "ParseExampleV2":
            return None
        number = tensor[1] - 3 * int(node.attr["num_sparse"].i)
        keys = self.wiring.nodes[tensor_of(node.input[3])[0]]
        if keys.op != "Const" or not 0 <= number < len(node.attr["Tdense"].list.type):
            return None
        return bytes(tensor_util.MakeNdarray(keys.attr["value"].tensor)[number]).decode(errors="replace")

    def _graph(self, part: Part, outputs: dict[str, Tensor]) -> SignatureGraph:
        present = {node.name for node in part.graph_def.node}
        own = {name: f"{t[0]}:{t[1]}" for t, name in self.own_inputs.items() if t[0] in present}
        inputs = own | {self._name(tensor): f"{placeholder}:0" for tensor, placeholder in part.fed.items()}
        return SignatureGraph(part.graph_def, inputs, {name: f"{t[0]}:{t[1]}" for name, t in outputs.items()},
                              {name: handle for name, handle in self.graph.resources.items() if name in present},
                              {name: value for name, value in self.graph.weights.items() if name in present})

    def _host_graph(self, part: Part, outputs: dict[str, Tensor]) -> SignatureGraph | None:
        if not outputs:
            return None
        graph = self._graph(part, outputs)
        if graph.weights:
            raise Unsupported(f"{min(graph.weights)} is among over 2 GiB of variables and would stay on the host")
        return graph

    def _core_contract(self, core: Part, graph: SignatureGraph) -> SignatureContract:
        whole = self.contract
        fed = {placeholder: tensor for tensor, placeholder in core.fed.items()}
        inputs = {name: whole.inputs[name] if name in whole.inputs
                  else self._tensor(name, fed[tensor_of(tensor)[0]]) for name, tensor in graph.inputs.items()}
        outputs = {name: whole.outputs[name] if name in whole.outputs else self._tensor(name, tensor_of(tensor))
                   for name, tensor in graph.outputs.items()}
        return SignatureContract(name=whole.name, method_name=whole.method_name, inputs=inputs, outputs=outputs)

    def _tensor(self, name: str, tensor: Tensor) -> TensorContract:
        shape: Shape | None = self.shapes.of(tensor)
        node = self.wiring.nodes[tensor[0]]
        if (dtype := self.shapes.dtype(tensor)) in _NOT_NUMBERS:
            raise Unsupported(f"{node.op} ({node.name}) makes a {dtype}, which cannot be handed to an engine or out of "
                              "one")
        if shape is None:
            raise Unsupported(f"{node.op} ({node.name}) has a result of unknown rank, where an engine would begin or "
                              "end: give it a shape with tf.ensure_shape")
        return TensorContract(dtype=dtype, shape=shape)

    def _described(self, places: Places, before: dict[str, Tensor]) -> list[HostOperation]:
        feeding = {name: self.wiring.ancestors([tensor[0]]) for name, tensor in before.items()}
        found = []
        for side, nodes in (("before", places.before), ("after", places.after)):
            for name in (name for name in self.wiring.order if name in nodes):
                feeds = tuple(feature for feature, needs in feeding.items() if name in needs)
                cut_off = "has weights, but work for the host separates it from the core" if (
                    name in self.hosts.weighted) else ""
                found.append(HostOperation(side=side, op=self.wiring.nodes[name].op, node=name,
                                           why=self.hosts.why.get(name, cut_off), feeds=feeds))
        return found


def _refuse_branching(wiring: Wiring) -> None:
    """Where a branch is not taken there are no tensors that a part could be handed."""
    for name in wiring.order:
        if (op := wiring.nodes[name].op) in _BRANCHING:
            raise Unsupported(f"it has a branch that cannot be cut ({op}, {name}), and operations for the host: write "
                              "the branch with tf.cond, or as a choice between both results")


def _measured_behind_strings(graph_def: graph_pb2.GraphDef, wiring: Wiring, hosts: Hosts) -> graph_pb2.GraphDef:
    """A copy in which the shape of strings is taken of the numbers that they become, where that is the same shape.

    Otherwise the core would be told a shape by the host, and could not see that it has it already.
    """
    copy = copy_of(graph_def)
    for node in copy.node:
        if node.op in _MEASURES and node.name in hosts.why and node.attr["T"].type == _DT_STRING:
            alike = same_shape(tensor_of(node.input[0]), wiring)
            _measure(node, [tensor for tensor in alike if tensor[0] in hosts.numbers], wiring)
    return copy


def _measured_at_edges(graph_def: graph_pb2.GraphDef, wiring: Wiring, places: Places) -> graph_pb2.GraphDef:
    """A copy in which each part takes shapes of what it is given anyway, where they are the same."""
    copy = copy_of(graph_def)
    for part, earlier in ((places.core, places.before), (places.after, places.before | places.core)):
        given = {tensor for name in part if wiring.nodes[name].op not in _MEASURES
                 for tensor in wiring.reads(name)} | set(wiring.wanted)
        for node in copy.node:
            if node.op in _MEASURES and node.name in part and tensor_of(node.input[0])[0] in earlier:
                alike = same_shape(tensor_of(node.input[0]), wiring)
                _measure(node, [tensor for tensor in alike if tensor in given and tensor[0] in earlier], wiring)
    return copy


def _measure(node: node_def_pb2.NodeDef, candidates: list[Tensor], wiring: Wiring) -> None:
    """Let ``node`` tell the shape of the first of ``candidates``, where there is one."""
    if candidates:
        maker, number = candidates[0]
        node.input[0] = f"{maker}:{number}"
        node.attr["T"].type = data_types(wiring.nodes[maker], "output_arg")[number]
