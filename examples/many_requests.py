"""Many requests at once from asyncio: the server makes batches of them.

    python examples/many_requests.py grpc://localhost:8500 enko translate calibration_data/enko_validation.npz

Every sample of the file becomes a request of its own; so many are under way at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import numpy as np

from trt_pipeline import client


async def ask_all(address: str, model: str, signature: str, samples: dict[str, np.ndarray], at_once: int) -> list[dict]:
    """The answer to each sample, in their order."""
    room = asyncio.Semaphore(at_once)
    async with client.connect_async(address) as server:

        async def ask(row: int) -> dict:
            inputs = {name: values[row:row + 1] for name, values in samples.items()}
            async with room:
                return await server.predict(model, inputs, signature=signature)

        count = len(next(iter(samples.values())))
        return await asyncio.gather(*(ask(row) for row in range(count)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("model")
    parser.add_argument("signature")
    parser.add_argument("samples", help="npz")
    parser.add_argument("--at-once", type=int, default=32)
    given = parser.parse_args()
    samples = dict(np.load(given.samples))
    started = time.perf_counter()
    answers = asyncio.run(ask_all(given.address, given.model, given.signature, samples, given.at_once))
    seconds = time.perf_counter() - started
    print(f"{len(answers)} answers in {seconds:.1f} s, {len(answers) / seconds:.0f}/s: {', '.join(answers[0])}")


if __name__ == "__main__":
    main()
