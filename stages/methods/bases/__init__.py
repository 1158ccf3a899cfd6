"""What methods extend: the base of all, and shapes that several have in common."""
