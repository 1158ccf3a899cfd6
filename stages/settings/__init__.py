"""What params.yaml means, where files lie, and the plan of every run, by which it is known."""
