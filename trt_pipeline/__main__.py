"""`python -m trt_pipeline` is the command line."""

from trt_pipeline.cli import main

main()
