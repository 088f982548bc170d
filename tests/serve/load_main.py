"""A client process that loads a server: ``load_main.py ADDRESS CLIENTS SECONDS``, requests as hex lines on stdin.

Prints how many were answered. It has no protobuf and no TensorFlow, so that what it costs is little and the same for
every model.
"""

from __future__ import annotations

import sys
import threading
import time

import grpc

METHOD = "/tensorflow.serving.PredictionService/Predict"


def main(address: str, clients: int, seconds: float, requests: list[bytes]) -> int:
    """How many requests so many clients, each with one under way at a time, get answered."""
    answered = [0] * clients
    until = time.monotonic() + seconds

    def client(number: int) -> None:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            predict = channel.unary_unary(METHOD)
            while time.monotonic() < until:
                predict(requests[(number + answered[number]) % len(requests)], timeout=60)
                answered[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answered)


if __name__ == "__main__":
    lines = [bytes.fromhex(line) for line in sys.stdin.read().split()]
    print(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), lines))
