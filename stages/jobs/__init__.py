"""From checked parameters and the files of earlier stages to what a script works with."""
