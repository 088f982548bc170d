"""Sweep two models over backends, precisions and batch sizes, print what is worth having, publish the best.

    .venv/bin/python examples/sweep.py            # on this machine, one candidate after the other
    .venv/bin/python examples/sweep.py --ray      # several at once, each with a core of its own, or on your cluster
"""

import argparse

import rich

import trt_pipeline as tp

parser = argparse.ArgumentParser()
parser.add_argument("--ray", action="store_true", help="judge on a Ray cluster")
parser.add_argument("--serving", default="serving", help="publish below this folder")
parser.add_argument("--output", default="artifacts/sweeps", help="keep results here")
parser.add_argument("--seconds", type=float, default=2.0, help="time of each candidate at each batch size")
given = parser.parse_args()

triton = tp.Target(kind="triton", version="24.10")
candidates = [f"{backend}/{precision}" for backend, precisions in {
    "tensorflow": ["fp32", "bf16"], "onnxruntime": ["fp32", "int8"]}.items() for precision in precisions]

for name, signature, batch_sizes in [("enko", "translate", [1, 8]), ("demo", "serving_default", [1, 16, 64])]:
    run = tp.sweep(name, signatures=[signature], candidates=candidates, batch_sizes=batch_sizes, targets=[triton],
                   duration_s=given.seconds, executor=tp.Cluster(cpus=1) if given.ray else "local", output=given.output)
    rich.print(run.table())
    print(run.to_frame(by="batch")[["speedup_latency_p50", "throughput"]].round(2))

    small = ["size_mb <= 20"]
    for candidate, why in run.reasons(subject_to=small).items():
        print(f"{candidate} is not the best: {why}")
    for publication in run.best(subject_to=small).publish(f"{given.serving}/{name}"):
        print(f"{publication.target}: {publication.candidate} at {publication.path}")
