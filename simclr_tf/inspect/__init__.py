"""What to look at before a run: pictures of the augmentations, the recipe in a few lines, the memory it will take."""
