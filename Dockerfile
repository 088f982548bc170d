# What a self-hosted GPU runner needs, and what `make` targets run in: Python 3.10, CUDA 11.8, and from the locks
# cuDNN 8.7, TensorRT 8.5.3.1 and TensorFlow 2.14.1, the one pairing whose TF-TRT works with wheels from the package index.
#
#   docker build -t trt-pipeline-gpu .
#   docker run --rm --gpus all -v "$PWD:/work" trt-pipeline-gpu make optimize MODEL=enko
#
# The checkout at /work has to be writable for user 1000, or for whom --user names. docs/ci.md says how a runner
# of GitHub, GitLab or Jenkins is run in it.
FROM nvidia/cuda:11.8.0-runtime-ubuntu22.04

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Ubuntu's own Python is 3.10. Its archive keeps only the newest version of a package, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git make python3.10 python3.10-venv \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 runner && install --directory --owner runner --group runner /opt/venv /opt/source /work
USER 1000

# The environment, hashes checked. `make install` in a checkout leaves it as it is while the locks agree, and lets
# the command trt-pipeline run the checkout's own code: so whoever --user names may write to it.
ENV VENV=/opt/venv
WORKDIR /opt/source
COPY --chown=1000 pyproject.toml requirements.lock Makefile README.md ./
COPY --chown=1000 trt_pipeline trt_pipeline
COPY --chown=1000 tests/environments/tensorrt-8.5.lock tests/environments/
RUN make install PYTHON=python3.10 \
    && /opt/venv/bin/python -m pip install --no-cache-dir --require-hashes -r tests/environments/tensorrt-8.5.lock \
    && chmod -R a+rwX /opt/venv

# Where TensorFlow looks for what those wheels brought.
ENV PATH=/opt/venv/bin:$PATH \
    LD_LIBRARY_PATH=/opt/venv/lib/python3.10/site-packages/tensorrt:/opt/venv/lib/python3.10/site-packages/nvidia/cudnn/lib:/opt/venv/lib/python3.10/site-packages/nvidia/cublas/lib:/opt/venv/lib/python3.10/site-packages/nvidia/cuda_runtime/lib:/usr/local/cuda/lib64

WORKDIR /work
CMD ["trt-pipeline", "doctor"]
