"""Does a candidate still say what the original said? Cases, tolerances, comparison and the gate."""
