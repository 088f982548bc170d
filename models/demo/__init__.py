"""A digit classifier small enough to train in seconds, with one signature of each awkward kind."""
