"""What continuous integration asks of a run: bounds, a baseline, and files that its pages show."""
