"""int8 inside a plain SavedModel on the CPU: TensorFlow's own oneDNN operations in place of the float ones."""
