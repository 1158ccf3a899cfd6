"""What methods share: the base of all, the shapes that several have in common, and their small parts."""
