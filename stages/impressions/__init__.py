"""Impression Space: what a teacher's batch normalisation remembers of its training images, measured and drawn."""
