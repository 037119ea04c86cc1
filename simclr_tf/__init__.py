"""SimCLR (Chen et al., 2020, https://arxiv.org/abs/2002.05709) for Keras 3 on TensorFlow."""
