"""An encoder, and a linear classifier on it, in files that need nothing of this project: one format a file."""
