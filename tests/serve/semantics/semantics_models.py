"""The models that the tables of requests are about, and the models.config that serves them.

half_plus_two and saved_model_half_plus_three answer as the models of the same names in TensorFlow Serving's own test
data, so its documents' examples can be replayed as they stand. All but half_plus_two_tf2 are saved as TensorFlow 1 did:
signatures have the method names that they say, and feeds plain names ("x:0"), which some messages quote.

Run as a program it writes the models, models.config and monitoring.config into the folder named, for a real
tensorflow_model_server.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CLASSIFY, PREDICT, REGRESS = (f"tensorflow/serving/{method}" for method in ("classify", "predict", "regress"))
NAMES = ("half_plus_two", "saved_model_half_plus_three", "half_plus_two_tf2", "versions", "tensors", "examples",
         "no_default")
VERSIONS = (1, 2, 3)
TYPES = ("float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool",
         "string")


def save_all(folder: Path) -> Path:
    """Write each model to folder/NAME/VERSION and return the path of folder/models.config."""
    half_plus(folder / "half_plus_two/123")
    half_plus(folder / "saved_model_half_plus_three/123", three=True)
    half_plus_two_tf2(folder / "half_plus_two_tf2/1")
    for version in VERSIONS:
        versions(folder / f"versions/{version}", version)
    tensors(folder / "tensors/1")
    examples(folder / "examples/1")
    no_default(folder / "no_default/1")
    config = folder / "models.config"
    config.write_text(models_config(folder))
    return config


def models_config(folder: Path, labels: bool = False) -> str:
    """All models and every version of them. Labels come in a second config: they are for versions that are loaded."""
    named = {"half_plus_two": {"stable": 123}, "versions": {"stable": 1, "canary": 3}} if labels else {}
    return "\n".join(["model_config_list {", *(_config(folder, name, named.get(name, {})) for name in NAMES), "}"])


def _config(folder: Path, name: str, labels: Mapping[str, int]) -> str:
    labelled = "".join(f' version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items())
    return (f'  config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" '
            f"model_version_policy {{ all {{}} }}{labelled} }}")


Signature = tuple[Mapping[str, Any], Mapping[str, Any], str]


def _save(folder: Path, build: Any) -> None:
    """Save the signatures that build() makes in a graph of its own: name -> (inputs, outputs, method)."""
    import tensorflow as tf
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

    def described(tensors: Mapping[str, Any]) -> dict[str, TensorInfo]:
        return {alias: TensorInfo(name=tensor.name, dtype=tensor.dtype.as_datatype_enum,
                                  tensor_shape=tensor.shape.as_proto()) for alias, tensor in tensors.items()}

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        signatures = {name: SignatureDef(inputs=described(inputs), outputs=described(outputs), method_name=method)
                      for name, (inputs, outputs, method) in build(tf).items()}
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()


def half_plus(folder: Path, three: bool = False) -> None:
    """Half of x plus two; as saved_model_half_plus_three plus three, with its other signature names."""
    def build(tf: Any) -> dict[str, Signature]:
        half = tf.compat.v1.get_variable("a", initializer=0.5)
        serialized = tf.compat.v1.placeholder(tf.string, name="tf_example")
        parsed = tf.io.parse_example(serialized, {
            "x": tf.io.FixedLenFeature([1], tf.float32),
            "x2": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])})
        x, x2 = (tf.identity(parsed[name], name) for name in ("x", "x2"))
        y = tf.identity(half * x + (3.0 if three else 2.0), "y")
        y2 = tf.identity(half * x + 3.0, "y2")
        y3 = tf.identity(half * x2 + 3.0, "y3")
        predict = ({"x": x}, {"y": y}, PREDICT)
        if three:
            return {"serving_default": predict,
                    REGRESS: ({"inputs": serialized}, {"outputs": y}, REGRESS),
                    CLASSIFY: ({"inputs": serialized}, {"scores": y}, CLASSIFY)}
        return {"serving_default": predict,
                "regress_x_to_y": ({"inputs": serialized}, {"outputs": y}, REGRESS),
                "regress_x_to_y2": ({"inputs": serialized}, {"outputs": y2}, REGRESS),
                "regress_x2_to_y3": ({"inputs": x2}, {"outputs": y3}, REGRESS),
                "classify_x_to_y": ({"inputs": serialized}, {"scores": y}, CLASSIFY),
                "classify_x2_to_y3": ({"inputs": x2}, {"scores": y3}, CLASSIFY)}
    _save(folder, build)


def half_plus_two_tf2(folder: Path) -> None:
    """The same as a tf.Module: TensorFlow 2 writes each signature's method name as predict."""
    import tensorflow as tf

    module = tf.Module()
    module.half = tf.Variable(0.5)
    features = {"x": tf.io.FixedLenFeature([1], tf.float32)}
    serialized = tf.TensorSpec([None], tf.string, "inputs")

    def answer(x: Any) -> Any:
        return module.half * x + 2.0

    functions = {
        "serving_default": tf.function(lambda x: {"y": answer(x)}, [tf.TensorSpec([None], tf.float32, "x")]),
        "regress_x_to_y": tf.function(
            lambda inputs: {"outputs": answer(tf.io.parse_example(inputs, features)["x"])}, [serialized]),
        "classify_x_to_y": tf.function(
            lambda inputs: {"scores": answer(tf.io.parse_example(inputs, features)["x"])}, [serialized])}
    module.functions = functions
    tf.saved_model.save(module, str(folder), signatures=functions)


def versions(folder: Path, version: int) -> None:
    """float32[n] x -> x plus the version, so that an answer tells which version gave it."""
    def build(tf: Any) -> dict[str, Signature]:
        x = tf.compat.v1.placeholder(tf.float32, [None], "x")
        return {"serving_default": ({"x": x}, {"y": tf.add(x, float(version), "y")}, PREDICT)}
    _save(folder, build)


def tensors(folder: Path) -> None:
    """One signature for each dtype that gives back its input of any shape, and some of several inputs or outputs."""
    def build(tf: Any) -> dict[str, Signature]:
        def feed(dtype: str, name: str, shape: Any = None) -> Any:
            return tf.compat.v1.placeholder(dtype, shape, name)

        signatures = {}
        for dtype in TYPES:
            x = feed(dtype, f"{dtype}_x")
            signatures[dtype] = ({"x": x}, {"y": tf.identity(x, f"{dtype}_y")}, PREDICT)
        text = feed("string", "text", [None])
        signatures["bytes_out"] = ({"x": text}, {"y_bytes": tf.identity(text, "text_bytes")}, PREDICT)
        signatures["text_and_bytes"] = (
            {"x": text}, {"text": tf.identity(text, "text_again"), "raw_bytes": tf.identity(text, "raw")}, PREDICT)
        tag, signal, sensor = feed("string", "tag", [None]), feed("int32", "signal", [None, 5]), feed(
            "int32", "sensor", [None, 2, 2])
        signatures["serving_default"] = (
            {"tag": tag, "signal": signal, "sensor": sensor},
            {"tag": tf.identity(tag, "tag_out"), "signal_sum": tf.reduce_sum(signal, 1),
             "sensor_max": tf.reduce_max(sensor, 2)}, PREDICT)
        many = feed("float32", "many", [None])
        signatures["total"] = ({"x": many}, {"total": tf.reduce_sum(many)}, PREDICT)
        signatures["total_too"] = ({"x": many}, {"total": tf.reduce_sum(many), "y": tf.identity(many)}, PREDICT)
        signatures["uneven"] = ({"x": many}, {"a": tf.identity(many), "b": many[:1]}, PREDICT)
        matrix = feed("float32", "matrix", [None, 2])
        signatures["matmul"] = ({"x": matrix}, {"y": tf.matmul(matrix, tf.ones([2, 3]), name="product")}, PREDICT)
        a, b = feed("float32", "a", [None]), feed("float32", "b", [None])
        signatures["two_inputs"] = ({"a": a, "b": b}, {"sum": tf.add(a, b)}, PREDICT)
        rows, columns = feed("int64", "rows", []), feed("int64", "columns", [None])
        signatures["unlike_batches"] = ({"rows": rows, "columns": columns}, {"y": rows * columns}, PREDICT)
        return signatures
    _save(folder, build)


def examples(folder: Path) -> None:
    """Classification and regression from tf.Example, with signatures whose outputs break the rules one at a time."""
    def build(tf: Any) -> dict[str, Signature]:
        serialized = tf.compat.v1.placeholder(tf.string, [None], "tf_example")
        parsed = tf.io.parse_example(serialized, {
            "x": tf.io.FixedLenFeature([2], tf.float32, default_value=[0.0, 0.0]),
            "age": tf.io.FixedLenFeature([1], tf.int64, default_value=[0]),
            "query": tf.io.FixedLenFeature([], tf.string, default_value=""),
            "caption": tf.io.FixedLenFeature([], tf.string, default_value=""),
            "image": tf.io.FixedLenFeature([], tf.string, default_value="")})
        x, age = parsed["x"], tf.cast(parsed["age"], tf.float32)
        number = tf.shape(x)[0]
        labels = tf.tile([["cat", "dog"]], [number, 1])
        words = tf.stack([parsed["caption"], parsed["image"]], 1)
        lengths = tf.cast(tf.strings.length(words), tf.float32)
        queried = tf.cast(tf.strings.length(parsed["query"]), tf.float32)
        inputs = {"inputs": serialized}
        only_age = tf.identity(age, "age_column")
        return {
            "serving_default": (inputs, {"classes": labels, "scores": tf.identity(x)}, CLASSIFY),
            "classes_only": (inputs, {"classes": labels}, CLASSIFY),
            "scores_only": (inputs, {"scores": tf.identity(x)}, CLASSIFY),
            "classify_objects": (inputs, {"classes": words, "scores": lengths}, CLASSIFY),
            "flat_scores": (inputs, {"scores": x[:, 0]}, CLASSIFY),
            "number_classes": (inputs, {"classes": parsed["age"]}, CLASSIFY),
            "double_scores": (inputs, {"scores": tf.cast(x, tf.float64)}, CLASSIFY),
            "one_score_row": (inputs, {"scores": x[:1]}, CLASSIFY),
            "more_classes": (inputs, {"classes": labels, "scores": x[:, :1]}, CLASSIFY),
            "three_outputs": (inputs, {"classes": labels, "scores": tf.identity(x), "extra": only_age}, CLASSIFY),
            "wrong_names": (inputs, {"labels": labels}, CLASSIFY),
            "age": (inputs, {"outputs": only_age}, REGRESS),
            "age_flat": (inputs, {"outputs": age[:, 0]}, REGRESS),
            "with_query": (inputs, {"outputs": x[:, 0] + queried}, REGRESS),
            "wide": (inputs, {"outputs": tf.identity(x)}, REGRESS),
            "double": (inputs, {"outputs": tf.cast(age, tf.float64)}, REGRESS),
            "one_row": (inputs, {"outputs": age[:1]}, REGRESS),
            "wrong_output": (inputs, {"value": only_age}, REGRESS)}
    _save(folder, build)


def no_default(folder: Path) -> None:
    """A model whose only signature is not the default one."""
    def build(tf: Any) -> dict[str, Signature]:
        x = tf.compat.v1.placeholder(tf.float32, [None], "x")
        return {"only": ({"x": x}, {"y": tf.negative(x, "y")}, PREDICT)}
    _save(folder, build)


if __name__ == "__main__":
    to = Path(sys.argv[1]).resolve()
    print(save_all(to))
    (to / "monitoring.config").write_text('prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }\n')
