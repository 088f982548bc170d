"""Graph surgery: SavedModel signatures to frozen graphs, back to SavedModels, and to ONNX."""
