#!/bin/sh
# Classify two flowers with a running server of TensorFlow Serving's REST API.
#     examples/iris.sh [http://localhost:8501]
set -eu

curl --silent --show-error --fail-with-body "${1:-http://localhost:8501}/v1/models/iris:classify" --data '{
  "examples": [
    {"SepalLength": [5.1], "SepalWidth": [3.3], "PetalLength": [1.7], "PetalWidth": [0.5]},
    {"SepalLength": [6.9], "SepalWidth": [3.1], "PetalLength": [5.4], "PetalWidth": [2.1]}
  ]
}'
