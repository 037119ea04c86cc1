"""Protocols that train before they judge; those that judge a frozen encoder are in `simclr_tf.evaluation`."""
