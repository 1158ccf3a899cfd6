"""Plain modules, built by name: one file a family of networks, with the names that it knows and `build`."""
