"""What is wrong with an installation or a job, and the line that puts it right."""
