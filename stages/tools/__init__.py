"""What is no stage of the pipeline: run it by hand."""
