"""What is trained: a file for each task, on top of the engine in `simclr_tf.training`."""
