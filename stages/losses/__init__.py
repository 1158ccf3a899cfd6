"""Losses, as pure functions of tensors: of logits, of synthetic images, of features."""
