"""What the columns are like, and how far that moved."""
