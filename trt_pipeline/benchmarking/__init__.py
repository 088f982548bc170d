"""How fast is a candidate beside the original, measured in the same run, with its uncertainty."""
