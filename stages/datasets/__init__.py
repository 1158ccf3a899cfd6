"""Where examples come from, and the form they get on disk and in training."""
