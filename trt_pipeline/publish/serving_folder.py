"""The files of a serving folder that are about all models in it, rewritten by each publication.

    models.config               the models, versions and labels that TensorFlow Serving loads
    batching_parameters.txt     its batches
    monitoring.config           its metrics
    tensorflow_session.config   its limit of GPU memory, where it has a GPU
    compose.yaml, kserve.yaml   the servers themselves
    publications.json           what the next publication has to know
    SHA256SUMS                  the checksums of these
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trt_pipeline.publish import batching, compose, deployment, kserve, memory, models_config, record, served, versions
from trt_pipeline.publish.layout import BATCHING, COMPOSE, KSERVE, MODELS, MONITORING, SESSION
from trt_pipeline.publish.record import Record

FILES = (BATCHING, SESSION, MONITORING, MODELS, COMPOSE, KSERVE, record.FILE)
"""Which of them there may be."""
_METRICS = 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }\n'


def write(serving: Path, records: Mapping[str, Record]) -> dict[str, Record]:
    """Rewrite the files for all that is below ``serving``; files that have nothing to say go.

    Args:
        records: the models by name, those published just now included.

    Returns:
        The records as they were written.

    Raises:
        OutputError: the folder cannot be written.
    """
    tensorflow, triton = served.tensorflow_models(serving, records), served.triton_models(serving, records)
    texts: dict[str, str | None] = dict.fromkeys(FILES)
    containers, services = [], []
    if tensorflow:
        one = deployment.server("tf-serving", tensorflow)
        containers.append(one)
        # KServe has the newest version served, and while a new one is loaded the old one still answers.
        newest = [model.model_copy(update={"versions": model.versions[-1:], "resident": 2}) for model in tensorflow]
        services += [(deployment.server("tf-serving", [model]), [model]) for model in newest]
        if one.gpu_limit:
            texts[SESSION] = memory.session_text(one.gpu_limit)
        policies = {model.name: model.record.policy for model in tensorflow if model.record.policy}
        texts |= {MODELS: models_config.text(policies), MONITORING: _METRICS,
                  BATCHING: batching.text(batching.common(
                      version.batches for model in tensorflow for version in model.versions if version.batches))}
    if triton:
        containers.append(deployment.server("triton", triton))
        services.append((containers[-1], triton))
    if containers:
        texts[COMPOSE] = compose.text(containers, bool(texts[SESSION]))
        texts[KSERVE] = kserve.text(services)
    written = {**records, **{model.name: model.record for model in tensorflow}}
    present = {model.name for model in tensorflow} | {
        name for name in records if any(m.name == name or m.name.startswith(f"{name}-") for m in triton)}
    written = {name: entry for name, entry in written.items() if name in present}
    texts[record.FILE] = record.text(written) if written else None
    versions.write(serving, {serving / name: text for name, text in texts.items()}, serving)
    return written
