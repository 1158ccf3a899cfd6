"""What methods share that compare the student's representation with the teacher's on OOD images."""
