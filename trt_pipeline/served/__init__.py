"""What a running server says, judged as a candidate is."""
