"""What a serving folder holds besides models, and where containers have it."""

from __future__ import annotations

FOLDER_IN_SERVER = "/models"
"""Where the containers of servers have the folder ``serving``."""
TRITON_FOLDER = "triton"
"""Triton's model repository."""
MODELS, BATCHING, SESSION = "models.config", "batching_parameters.txt", "tensorflow_session.config"
MONITORING, COMPOSE, KSERVE = "monitoring.config", "compose.yaml", "kserve.yaml"
