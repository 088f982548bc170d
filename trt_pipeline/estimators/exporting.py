"""Write an Estimator as one SavedModel with signatures on tf.Example and on raw tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_pipeline.errors import ConfigError, InputError, MissingError, OutputError, one_line
from trt_pipeline.model import saved_model
from trt_pipeline.model.contract import DEFAULT_SIGNATURE
from trt_pipeline.publish import versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensorflow.core.protobuf import meta_graph_pb2

EXAMPLES = "examples"
"""Input of the signatures on tf.Example; those of the methods classify and regress call it ``inputs``."""
PREDICT = "predict"
_RAW = "raw"


def export(estimator: Any, folder: str | os.PathLike[str], *, features: Mapping[str, Any] | Iterable[Any],
           version: int | None = None, checkpoint: str | os.PathLike[str] | None = None,
           assets_extra: Mapping[str, str | os.PathLike[str]] | None = None) -> Path:
    """Write ``estimator`` as the SavedModel ``folder/VERSION``, which appears by one rename.

    Its signatures:

    - ``serving_default``: serialized tf.Example, string (N,), to what the Estimator's head serves by
      default: ``classes`` string (N, C) and ``scores`` float32 (N, C) with the method classify, or
      ``outputs`` float32 (N, ...) with the method regress.
    - ``predict``: a tensor for each feature to all predictions. A `FixedLenFeature` of shape S is (N, *S);
      a `VarLenFeature` is (N, L), rows filled up with what feature columns leave out: "" for strings, -1
      for integers, 0 for floats.
    - what else the head gives (``regression`` of a binary classifier, further export_outputs of a model_fn),
      on raw tensors where its method is predict, else on tf.Example.

    Args:
        estimator: a trained ``tf.estimator.Estimator``, premade or not.
        folder: the folder of versions, ``models/iris`` or the like.
        features: feature columns, or feature name -> FixedLenFeature or VarLenFeature, as
            ``tf.io.parse_example`` takes them.
        version: the version's number; the next one by default.
        checkpoint: the one to export; the latest of ``model_dir`` by default.
        assets_extra: path below ``assets.extra`` -> file to copy there.

    Returns:
        The folder of the version.

    Raises:
        MissingError: this TensorFlow has no Estimators.
        ConfigError: ``features`` cannot be served as tensors, or the Estimator has no predictions to serve.
        InputError: the Estimator has not been trained, or ``estimator`` is none.
        OutputError: the version is there already, or ``folder`` cannot be written.
    """
    import tensorflow as tf

    if not hasattr(tf, "estimator"):
        raise MissingError(f"TensorFlow {tf.__version__} has no Estimators: export with 2.15 or earlier (pip install "
                           "'tensorflow<2.16')")
    if not callable(getattr(estimator, "export_saved_model", None)):
        raise InputError(f"{type(estimator).__name__} is no Estimator: it has no export_saved_model; a Keras model is "
                         "exported by tf.saved_model.save")
    specs = _specs(features)
    folder = Path(folder)
    if version is None:
        version = max(versions.existing(folder), default=0) + 1
    target = folder / str(version)
    if version < 1 or target.exists():
        raise OutputError(f"cannot export to {target}: " + (
            "versions count from 1" if version < 1 else "it is there already; give another version, or none"))
    with versions.staging(folder.parent) as scratch:
        try:
            written = estimator.export_saved_model(
                str(scratch), _receiver(specs), checkpoint_path=checkpoint and os.fspath(checkpoint),
                assets_extra={name: os.fspath(file) for name, file in (assets_extra or {}).items()})
        except (ValueError, KeyError, TypeError, tf.errors.NotFoundError) as error:
            raise InputError(f"the Estimator cannot be exported: {one_line(error)}") from error
        made = Path(os.fsdecode(written))
        _name_signatures(made)
        made.chmod(0o755)
        versions.place(made, target)
    return target


def _specs(features: Mapping[str, Any] | Iterable[Any]) -> dict[str, Any]:
    """Feature name -> how it is parsed."""
    import tensorflow as tf

    try:
        given = features if isinstance(features, Mapping) else tf.feature_column.make_parse_example_spec(list(features))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"features: {one_line(error)}") from error
    if not given:
        raise ConfigError("features: name at least one")
    for name, spec in given.items():
        if not isinstance(spec, (tf.io.FixedLenFeature, tf.io.VarLenFeature)):
            raise ConfigError(f"feature '{name}' is a {type(spec).__name__}: raw tensors can be a FixedLenFeature or a "
                              "VarLenFeature")
    return dict(given)


def _receiver(specs: Mapping[str, Any]) -> Callable[[], Any]:
    """What makes the graph's inputs: serialized examples, or instead the tensors that they are parsed into."""
    import tensorflow as tf

    def receive() -> Any:
        examples = tf.compat.v1.placeholder(tf.string, [None], name="input_example_tensor")
        parsed = tf.io.parse_example(examples, dict(specs))
        tensors = {name: _dense(tensor) for name, tensor in parsed.items()}
        # A copy: Estimators may change the features that they are given.
        return tf.estimator.export.ServingInputReceiver(dict(tensors), {EXAMPLES: examples}, {_RAW: tensors})

    return receive


def _dense(tensor: Any) -> Any:
    """A parsed feature as a tensor that can be fed, filled up with what feature columns ignore."""
    import tensorflow as tf

    if not isinstance(tensor, tf.SparseTensor):
        return tensor
    filling = "" if tensor.dtype == tf.string else -1 if tensor.dtype.is_integer else 0.0
    return tf.sparse.to_dense(tensor, default_value=tf.constant(filling, tensor.dtype))


def _name_signatures(folder: Path) -> None:
    """Give the signatures that Estimators call ``raw:predict`` and the like the names that `export` promises.

    Raises:
        ConfigError: there are none.
    """
    model = saved_model.parse(folder)
    definitions = model.meta_graphs[0].signature_def
    copies = {name: _copy(definitions[name]) for name in sorted(definitions)}
    raw = {name.partition(":")[2]: one for name, one in copies.items() if name.startswith(f"{_RAW}:")}
    plain = {name: one for name, one in copies.items() if not name.startswith(f"{_RAW}:")}
    # The default's raw form is served under a name of its own: the default is for tf.Example.
    if DEFAULT_SIGNATURE in raw:
        default = raw.pop(DEFAULT_SIGNATURE)
        raw.setdefault(PREDICT, default)
    if PREDICT not in raw:
        raise ConfigError("the Estimator has no predictions for raw tensors: give its EstimatorSpec's export_outputs a "
                          "PredictOutput")
    default = plain[DEFAULT_SIGNATURE]
    others = {name: signature for name, signature in plain.items()
              if name not in raw and name != DEFAULT_SIGNATURE and signature != default}
    for name in list(definitions):
        del definitions[name]
    for name, signature in ({DEFAULT_SIGNATURE: default} | others | raw).items():
        definitions[name].CopyFrom(signature)
    (folder / "saved_model.pb").write_bytes(model.SerializeToString(deterministic=True))
    # Hashes of saved_model.pb, which has just changed; nothing needs the file.
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def _copy(signature: meta_graph_pb2.SignatureDef) -> meta_graph_pb2.SignatureDef:
    copy = type(signature)()
    copy.CopyFrom(signature)
    return copy
