"""What to look at: pictures of the augmentations, a recipe in a few lines, its memory; curves, neighbors and geometry."""
