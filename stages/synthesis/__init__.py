"""What methods that make images share: generator games, inversion into a pool, and the parts of both."""
