"""Cut a signature into its numeric core, for TensorRT, and what only TensorFlow on the host can do around it."""
