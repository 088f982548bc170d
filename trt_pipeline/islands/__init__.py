"""Islands: the few nodes that have to stay in float32 so that a candidate of lower precision passes its gate."""
