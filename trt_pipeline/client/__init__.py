"""Ask a running server, in one way whatever it speaks: TensorFlow Serving's gRPC or REST, Triton's gRPC or HTTP.

    from trt_pipeline import client

    with client.connect("grpc://localhost:8500") as server:
        print(server.predict("enko", {"input": [[261, 145, 178, 1]]}, signature="translate")["outputs"])

    async with client.connect_async("triton+http://localhost:8000") as server:
        answers = await asyncio.gather(*(server.predict("enko", {"input": row}) for row in rows))

| address | server |
|---|---|
| ``grpc://HOST:8500`` | TensorFlow Serving, gRPC |
| ``http://HOST:8501`` | TensorFlow Serving, REST |
| ``triton+grpc://HOST:8001`` | Triton, gRPC |
| ``triton+http://HOST:8000`` | Triton, HTTP |

Each protocol's library (grpcio with TensorFlow Serving's stubs, httpx, tritonclient) loads when a server of it
is connected to.
"""

from trt_pipeline.client.address import connect, connect_async
from trt_pipeline.client.answers import Label, Metadata, VersionStatus
from trt_pipeline.client.server import AsyncServer, Server
from trt_pipeline.errors import RequestError, UnreachableError

__all__ = ["AsyncServer", "Label", "Metadata", "RequestError", "Server", "UnreachableError", "VersionStatus",
           "connect", "connect_async"]
