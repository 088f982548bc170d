"""The pipeline: stages in workers, results kept under content keys, one run after another."""
