"""`make bench`: what the README and docs/benchmarks.md claim, measured again on this machine."""
