"""Which OOD examples to keep, and which of them stand in the test split too."""
