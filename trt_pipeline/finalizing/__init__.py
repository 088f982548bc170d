"""Complete on a GPU what was converted without one: what a candidate takes along, and what is done with it there."""
