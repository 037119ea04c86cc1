"""The paper's comparisons, one command each: `simclr-study NAME`. To add one, give it a row in `STUDIES`."""

from collections.abc import Sequence

from simclr_tf.config import Invariance, Transfer, split_target
from simclr_tf.studies.study import Judgment, Study, Times, grid, multiples, named, top1, tuned, values

# Those of figure 5, and the flip, which the paper's crop includes; figure 4 rotates by 90, 180 or 270 degrees.
TRANSFORMATIONS = {name: name for name in ("crop", "cutout", "color", "sobel", "noise", "blur", "rotate", "flip")}
TRANSFORMATIONS |= {"color": "jitter,gray", "rotate": "rotate90"}

# The encoder frozen under a linear probe, and the same network and augmentations with labels from the start.
SIMCLR_OR_SUPERVISED = {("SimCLR",): Judgment("linear"), ("supervised",): Judgment("supervised")}

# What a recipe may say of hidden layers, and heads without one do not take.
NO_HIDDEN_LAYERS = {"projection_layers": 1, "projection_width": None, "projection_bn": True}

# What `mode=invariance` asks, and the representations that it asks.
ASKED = tuple(Invariance.paper)


def transfer(targets: Sequence[str] = ("cifar100",)) -> Study:
    """The study of transfer to labeled data, each named like `cifar100` or `folder:PATH`.

    Raises:
        ValueError: If a target is not of a known kind.
    """
    moved, judgments = Transfer(targets=",".join(targets)), {}
    for target in moved.each:
        name, folder = split_target(target)
        place = {"dataset": name} | ({"data_dir": folder} if folder else {})
        for protocol, key in (("linear", "linear"), ("fine-tuned", "finetune")):
            judgments[protocol, target] = Judgment(
                "transfer", {"targets": moved.targets}, ("targets", target, key, "top1")
            )
        judgments["from scratch", target] = Judgment("supervised", place)
    paper = {
        (protocol, target): (number,)
        for protocol, number in (("linear", 80.2), ("fine-tuned", 89.0), ("from scratch", 81.9))
        for target in moved.each
        if split_target(target)[0] == "cifar100"
    }
    return Study(
        title="Transfer to other data", axes=("protocol", "target"), judgments=judgments, cells={(): {}},
        question="The encoder, judged on other data than it was trained on: a linear probe, fine-tuning, and the same "
        "network from scratch there, on nine tenths of the labels, the others being validation images.",
        source="Table 8: pretrained on ImageNet, ResNet-50 (4x)",
        paper=paper,
    )  # fmt: skip


# fmt: off
STUDIES = {
    "augmentation_pairs": Study(
        title="Compositions of two transformations", axes=("first", "second"), figure="heatmap",
        question="Each image is cropped once; then one branch gets the first transformation and after it the second, on "
        "the diagonal one alone, and the other is left as it is (`--asymmetric`). Color is jitter and gray at "
        "`--color_strength`. The paper's crop includes the flip, which is a transformation of its own here.",
        cells={(one, two): {"augmentations": ",".join(dict.fromkeys([first, second])), "asymmetric": True,
                             "blur": False}
               for one, first in TRANSFORMATIONS.items() for two, second in TRANSFORMATIONS.items()},
        source="Figure 5: ImageNet, ResNet-50, linear evaluation",
        paper=top1(("crop", "cutout", "color", "sobel", "noise", "blur", "rotate"), {
            "crop": (33.1, 33.9, 56.3, 46.0, 39.9, 35.0, 30.2),
            "cutout": (32.2, 25.6, 33.9, 40.0, 26.5, 25.2, 22.4),
            "color": (55.8, 35.5, 18.8, 21.0, 11.4, 16.5, 20.8),
            "sobel": (46.2, 40.6, 20.9, 4.0, 9.3, 6.2, 4.2),
            "noise": (38.8, 25.8, 7.5, 7.6, 9.8, 9.8, 9.6),
            "blur": (35.1, 25.2, 16.6, 5.8, 9.7, 2.6, 6.7),
            "rotate": (30.0, 22.5, 20.7, 4.3, 9.7, 6.5, 2.6),
        }),
    ),
    "base_network": Study(
        title="Base networks", axes=("encoder",), figure="parameters",
        question="Encoders of different families, all at `--width`. The paper does not make this comparison.",
        cells=grid(values("encoder", "resnet18", "resnet34", "resnet50", "vgg11", "mobilenet_v2")),
    ),
    "batch_epochs": Study(
        title="Batch size and epochs", axes=("batch", "epochs"),
        question="Multiples of `--batch_size` and `--epochs`; the learning rate follows the batch as `--lr_scaling` says, "
        "and `--warmup_epochs` stays. In the paper larger batches are ahead, but less so in longer trainings; its "
        "numbers are beside cells of the same batch and epochs, such as those of `--batch_size=1024 --epochs=400`.",
        cells=grid(multiples("batch_size", 1 / 4, 1 / 2, 1, 2), multiples("epochs", 1 / 4, 1 / 2, 1)),
        source="Table B.1, linear scaling of the learning rate: ImageNet, ResNet-50, linear evaluation",
        paper=top1(("100", "200", "400", "800"), {
            "256": (57.5, 61.9, 64.7, 66.6), "512": (60.7, 64.0, 66.2, 67.8), "1024": (62.8, 65.3, 67.2, 68.5),
            "2048": (64.0, 66.1, 68.1, 68.9), "4096": (64.6, 66.5, 68.2, 68.9), "8192": (64.8, 66.6, 67.8, 69.0),
        }),
    ),
    "color_strength": Study(
        title="Strength of the color distortion", axes=("training", "blur", "strength"),
        question="The paper's augmentation with stronger and stronger color distortion, without and with blur, and the "
        "policy that supervised learning chose, AutoAugment; and supervised learning with the same augmentations, on nine "
        "tenths of the labels, the others being validation images.",
        judgments=SIMCLR_OR_SUPERVISED,
        cells=grid({blur: {"augmentations": "simclr", "blur": blur == "yes"} for blur in ("no", "yes")},
                   values("color_strength", 0.125, 0.25, 0.5, 1))
        | {("no", "AutoAugment"): {"augmentations": "autoaugment", "blur": False}},
        source="Table 1: ImageNet, ResNet-50; SimCLR by linear evaluation",
        paper={(training, "no", strength): numbers for training, row in
               {"SimCLR": (59.6, 61.0, 62.6, 63.2, 61.1), "supervised": (77.0, 76.7, 76.5, 75.7, 77.1)}.items()
               for (_, strength), numbers in top1(("0.125", "0.25", "0.5", "1", "AutoAugment"), {"": row}).items()}
        | {("SimCLR", "yes", "1"): (64.5,), ("supervised", "yes", "1"): (75.4,)},
    ),
    "data_fraction": Study(
        title="Fewer images", axes=("images",),
        question="Parts of the training images, with as many steps for each. The probe learns on all labels. The paper "
        "does not make this comparison.",
        cells={(part,): {"train_fraction": part, "epochs": Times("epochs", 1 / part),
                         "warmup_epochs": Times("warmup_epochs", 1 / part)} for part in (0.1, 0.25, 0.5, 1.0)},
    ),
    "depth_width": Study(
        title="Depth and width of the ResNet", axes=("training", "encoder", "width"), figure="parameters",
        question="ResNets of multiples of `--width`, and the same networks supervised, on nine tenths of the labels, the "
        "others being validation images. The paper's figure 7 prints no numbers; there, deeper and wider is better "
        "throughout, and the distance to supervised learning falls. Its table 6 has numbers for three of them.",
        judgments=SIMCLR_OR_SUPERVISED,
        cells=grid(values("encoder", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
                   multiples("width", 1, 2, 4)),
        source="Table 6: ImageNet, 1000 epochs, linear evaluation",
        paper={("SimCLR", *labels): found
               for labels, found in top1(("1", "2", "4"), {"resnet50": (69.3, 74.2, 76.5)}).items()},
        published=(
            ("linear classifier on ImageNet, as table 6 of the paper lists it", "architecture", "top-1 %"),
            ("Local Aggregation", "ResNet-50", "60.2"), ("MoCo", "ResNet-50", "60.6"), ("PIRL", "ResNet-50", "63.6"),
            ("CPC v2", "ResNet-50", "63.8"), ("Rotation", "RevNet-50 (4x)", "55.4"),
            ("BigBiGAN", "RevNet-50 (4x)", "61.3"), ("AMDIM", "Custom-ResNet", "68.1"), ("CMC", "ResNet-50 (2x)", "68.4"),
            ("MoCo", "ResNet-50 (4x)", "68.6"), ("CPC v2", "ResNet-161", "71.5"),
        ),
    ),
    "head": Study(
        title="Projection heads", axes=("head", "dimension"),
        question="Heads of different kinds and output dimensions; without a head, z is h. The paper's figure 8 prints no "
        "numbers; its text says that nonlinear is ahead of linear by 3 points and of none by more than 10, whatever the "
        "dimension. It is h that is judged; `evaluate.py --layer=2` (`--layer=1` for a linear head) judges z, which the "
        "paper finds more than 10 points behind.",
        cells={("none", "of h"): {"projection": "none", "projection_dim": 128, "projection_last_bn": False,
                                 **NO_HIDDEN_LAYERS}}
        | grid({"linear": {"projection": "linear", **NO_HIDDEN_LAYERS}, "nonlinear": {"projection": "nonlinear"}},
               values("projection_dim", 32, 64, 128, 256, 512, 1024, 2048)),
    ),
    "invariance": Study(
        title="What h keeps and g(h) loses", axes=("from", "predict"), cells={(): {}},
        question="Classifiers with a hidden layer, which tell from h or from g(h) what an image went through. As in the "
        "paper, the pretraining should have these transformations, too, and g(h) as many dimensions as h: "
        "`recipe:cifar10_invariance`.",
        judgments={(key, question): Judgment("invariance", keys=("questions", question, key))
                   for question in ASKED for key in ("guess", "h", "g(h)")},
        source="Table 3: ImageNet, ResNet-50",
        paper={(key, question): (number,) for question, row in Invariance.paper.items()
               for key, number in zip(("guess", "h", "g(h)"), row, strict=True)},
    ),
    "label_fraction": Study(
        title="Few labels", axes=("method", "labels"), cells={(): {}},
        question="All layers trained on a part of the labels, equally many of each class: from the pretrained encoder and "
        "from scratch, on the same images. They are parts of those that are not validation images.",
        judgments={(name, f"{part:.0%}"): Judgment(mode, {"label_fraction": part})
                   for part in (0.01, 0.1, 1.0)
                   for name, mode in (("SimCLR", "finetune"), ("supervised", "supervised"))},
        published=(
            ("ImageNet, as table 7 of the paper lists it", "architecture", "top-5 %, 1 % of the labels", "10 %"),
            ("supervised baseline", "ResNet-50", "48.4", "80.4"), ("Pseudo-label", "ResNet-50", "51.6", "82.4"),
            ("VAT + entropy minimization", "ResNet-50", "47.0", "83.4"), ("UDA", "ResNet-50", "", "88.5"),
            ("FixMatch", "ResNet-50", "", "89.1"), ("S4L", "ResNet-50 (4x)", "", "91.2"),
            ("InstDisc", "ResNet-50", "39.2", "77.4"), ("BigBiGAN", "RevNet-50 (4x)", "55.2", "78.8"),
            ("PIRL", "ResNet-50", "57.2", "83.8"), ("CPC v2", "ResNet-161", "77.9", "91.2"),
            ("SimCLR", "ResNet-50", "75.5", "87.8"), ("SimCLR", "ResNet-50 (4x)", "85.8", "92.6"),
        ),
    ),
    "loss": Study(
        title="Contrastive losses", axes=("semi-hard", "loss"),
        question="Losses with all negatives and with semi-hard ones only. Temperature, or the margin of margin_triplet, is "
        "tuned for each. The paper tunes them for the logistic and the margin loss, for which it takes the negatives of "
        "one view only; it tunes the learning rate, too (appendix B.10), which LARS makes nearly independent of the loss's "
        "scale. `decoupled` is not in the paper.",
        cells=tuned(grid({"no": {"semi_hard": False}, "yes": {"semi_hard": True}}, values("loss", "margin_triplet")),
                    margin=(0.1, 0.4, 0.8))
        | tuned(grid({"no": {"semi_hard": False}, "yes": {"semi_hard": True}},
                     values("loss", "nt_logistic", "nt_xent", "decoupled")), temperature=(0.1, 0.2, 0.5)),
        source="Table 4: ImageNet, ResNet-50, linear evaluation",
        paper=top1(("margin_triplet", "nt_logistic"), {"no": (50.9, 51.6), "yes": (57.5, 57.9)})
        | {("no", "nt_xent"): (63.9,)},
    ),
    "recipe": Study(
        title="What each trick of the recipe is worth", axes=("recipe",), measures=("train_seconds", "validation_top1"),
        question="`recipe:cifar10_cpu`, and the same with one trick undone or another one tried, judged on the validation "
        "images alone. Where views keep their full size there are half as many epochs, at about the same cost.",
        cells=named({
            "as it is": {},
            "NT-Xent at 0.2": {"loss": "nt_xent", "temperature": 0.2},
            "head as wide as h": {"projection_width": None},
            "crops from 8 %": {"crop_area": 0.08},
            "gray as often as in the paper": {"gray_probability": 0.2},
            "learning rate 2": {"learning_rate": 2.0},
            "learning rate 8": {"learning_rate": 8.0},
            "batch 128": {"batch_size": 128, "learning_rate": Times("learning_rate", 1.4)},
            "batch 512": {"batch_size": 512, "learning_rate": Times("learning_rate", 0.7)},
            "full size throughout": {"resolutions": None, "epochs": Times("epochs", 1 / 2)},
            "float32": {"precision": "float32"},
        }),
    ),
    "similarity": Study(
        title="Similarities", axes=("similarity",),
        question="Similarities of the projections. Their ranges differ, so the temperature is tuned for each. Of "
        "these, the paper compares cosine and the dot product, in table 5: 64.4 against 57.2 % at the better temperature.",
        cells=tuned(grid(values("similarity", "cosine", "dot", "negative_euclidean", "negative_manhattan", "angular",
                                "bilinear")), temperature=(0.05, 0.1, 0.2, 0.5, 2)),
    ),
    "temperature": Study(
        title="Temperature and normalization", axes=("l2 norm", "temperature"),
        question="NT-Xent with and without normalized projections. Entropy and contrastive accuracy are those of the last "
        "epoch, over batches of `--batch_size` and negatives of both views, where the paper's are over 4096 images, and "
        "in its code over those of the other view: only their order can be compared.",
        cells=grid({"yes": {"loss": "nt_xent", "normalize": True}}, values("temperature", 0.05, 0.1, 0.5, 1))
        | grid({"no": {"loss": "nt_xent", "normalize": False}}, values("temperature", 10, 100)),
        source="Table 5: ImageNet, ResNet-50, linear evaluation",
        measures=("contrastive_entropy", "contrastive_accuracy", "top1"),
        paper={("yes", "0.05"): (1.0, 90.5, 59.7), ("yes", "0.1"): (4.5, 87.8, 64.4), ("yes", "0.5"): (8.2, 68.2, 60.7),
               ("yes", "1"): (8.3, 59.1, 58.0), ("no", "10"): (0.5, 91.7, 57.2), ("no", "100"): (0.5, 92.1, 57.0)},
    ),
    "transfer": transfer(),
}
