"""What a run found, for people: a table in the terminal and one HTML file."""

from trt_pipeline.report.html import write_html

__all__ = ["write_html"]
