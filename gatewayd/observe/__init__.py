"""What the data path leaves behind: numbers in shared memory and lines in the access log."""
