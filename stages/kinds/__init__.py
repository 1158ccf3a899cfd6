"""What changes with the kind of labels: the shape of logits, how losses reduce, and the metrics."""
