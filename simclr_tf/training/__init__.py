"""The engine that fits a Keras model to a stream of images, and what a run leaves on disk."""
