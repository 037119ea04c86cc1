"""ResNets with the CIFAR and the ImageNet stem (He et al., 2015, https://arxiv.org/abs/1512.03385).

The CIFAR stem is that of the SimCLR paper (appendix B.9): a 3x3 convolution of stride 1, without max-pooling. As in
SimCLR's code (tf2/resnet.py), the stride of a bottleneck is in its 3x3 convolution, strided convolutions pad both sides
equally, and the last batch norm of each block starts with gamma 0. Unlike there, shortcuts are projected only where the
shape changes, max-pooling pads both sides equally, and kernels are drawn from He's normal distribution.
"""

import keras

from simclr_tf.networks.convolution import Conv2D
from simclr_tf.networks.normalization import SyncBatchNormalization

# name: (blocks in each of the four stages, whether they are bottlenecks)
RESNETS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
    "resnet200": ((3, 24, 36, 3), True),
}
CIFAR_STEM_UP_TO = 64  # pixels


def resnet(
    name: str, image_shape: tuple[int, int, int], width: float = 1.0, stem: str = "auto", dtype=None
) -> keras.Model:
    """Makes a ResNet encoder f, which ends in global average pooling.

    Args:
        name: Key of `RESNETS`.
        image_shape: Shape (H, W, C) of the images.
        width: Multiplier of all channels.
        stem: "cifar", "imagenet", or "auto" for the CIFAR stem on images of up to 64 pixels.
        dtype: Keras dtype policy of the layers, for example "mixed_bfloat16".

    Returns:
        A model of float images (B, H, W, C) in [0, 1] to representations h, float32 (B, D).

    Raises:
        ValueError: If `name` or `stem` is unknown.
    """
    if name not in RESNETS:
        raise ValueError(f"Expected an encoder of {sorted(RESNETS)}. Received: {name}")
    depths, bottleneck = RESNETS[name]
    block = _bottleneck if bottleneck else _basic
    images = keras.Input(image_shape, name="images", dtype="float32")
    x = _stem(images, has_cifar_stem(stem, image_shape), channels(64, width), dtype)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            x = block(x, channels(64 * 2**stage, width), stride, f"stage{stage + 1}_block{index + 1}", dtype)
    h = keras.layers.GlobalAveragePooling2D(name="representation", dtype="float32")(x)
    return keras.Model(images, h, name=name)


def has_cifar_stem(stem: str, image_shape: tuple[int, int, int]) -> bool:
    """Whether `stem` means the CIFAR stem, with "auto" for images of up to 64 pixels on the longer side.

    Raises:
        ValueError: If `stem` is unknown.
    """
    if stem not in ("auto", "cifar", "imagenet"):
        raise ValueError(f"Expected `stem` to be auto, cifar or imagenet. Received: {stem}")
    return stem == "cifar" or (stem == "auto" and max(image_shape[:2]) <= CIFAR_STEM_UP_TO)


def channels(base: int, width: float) -> int:
    """`base` channels times `width`, at least one."""
    return max(1, round(base * width))


def _stem(x, cifar, filters, dtype):
    if cifar:
        return convolution(x, filters, 3, 1, "stem", dtype)
    x = convolution(x, filters, 7, 2, "stem", dtype)
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad", dtype=dtype)(x)  # zero never exceeds a ReLU's output
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool", dtype=dtype)(x)


def convolution(x, filters, kernel, stride, name, dtype, relu=True, gamma="ones"):
    """Applies a convolution with symmetric padding, a batch norm and a ReLU; only a stride changes the size.

    Args:
        x: Images or feature maps, (B, H, W, C).
        filters: Number of output channels.
        kernel: Side of the kernel, in pixels.
        stride: Stride of the convolution, in pixels.
        name: Prefix of the layers' names.
        dtype: Keras dtype policy of the layers.
        relu: Whether there is a ReLU.
        gamma: Initializer of the batch norm's scale.
    """
    padding = "same"
    if stride > 1 and kernel == 1:
        # oneDNN's own strided 1x1 convolution corrupts memory (https://github.com/uxlfoundation/oneDNN/issues/6035). This
        # is x[:, ::stride, ::stride], whose gradient would be slow as a slice.
        x = keras.layers.AveragePooling2D(1, stride, name=f"{name}_stride", dtype=dtype)(x)
        stride = 1
    elif stride > 1:
        x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad", dtype=dtype)(x)
        padding = "valid"
    x = Conv2D(
        filters, kernel, stride, padding, use_bias=False, kernel_initializer="he_normal",
        name=f"{name}_conv", dtype=dtype,
    )(x)  # fmt: skip
    x = SyncBatchNormalization(gamma_initializer=gamma, name=f"{name}_bn", dtype=dtype)(x)
    return keras.layers.ReLU(name=f"{name}_relu", dtype=dtype)(x) if relu else x


def _residual(x, y, filters, stride, name, dtype):
    """The ReLU of the block's output plus its shortcut, which is projected where the shape changes."""
    if stride > 1 or x.shape[-1] != filters:
        x = convolution(x, filters, 1, stride, f"{name}_shortcut", dtype, relu=False)
    total = keras.layers.Add(name=f"{name}_add", dtype=dtype)([x, y])
    return keras.layers.ReLU(name=f"{name}_out", dtype=dtype)(total)


def _basic(x, filters, stride, name, dtype):
    y = convolution(x, filters, 3, stride, f"{name}_1", dtype)
    y = convolution(y, filters, 3, 1, f"{name}_2", dtype, relu=False, gamma="zeros")
    return _residual(x, y, filters, stride, name, dtype)


def _bottleneck(x, filters, stride, name, dtype):
    y = convolution(x, filters, 1, 1, f"{name}_1", dtype)
    y = convolution(y, filters, 3, stride, f"{name}_2", dtype)
    y = convolution(y, 4 * filters, 1, 1, f"{name}_3", dtype, relu=False, gamma="zeros")
    return _residual(x, y, 4 * filters, stride, name, dtype)
