"""The one training loop and what it stands on: device, precision, ranks, players, streams, checkpoints. Knows no method."""
