"""What everything stands on: errors for users, files that are whole, progress bars, checked sections, parts loaded by name."""
