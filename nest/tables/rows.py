"""The paper's tables as literal rows: what is run, and what the paper says of it."""

from typing import Any

from nest.tables.table import Published, Row, Table

IMAGENET = dict(classes=1000, examples=1_281_167)
CIFAR10 = dict(classes=10, examples=50_000)
CIFAR100 = dict(classes=100, examples=50_000)


def _imagenet(size: str, **fields: Any) -> Row:
    name = fields.pop("name", f"imagenet_nest_{size}")
    title = fields.pop("title", f"NesT-{size[0].upper()}")
    return Row(name, title, f"configs/imagenet_nest.py:{size}", **IMAGENET | fields)


def _cifar(model: str, title: str, classes: int, **fields: Any) -> Row:
    family, _, size = model.rpartition("_")
    file = "cifar_nest.py" if family == "nest" else "cifar_baselines.py"
    argument = size if family == "nest" else model
    data = CIFAR10 if classes == 10 else CIFAR100
    argument += "" if classes == 10 else "_100"
    name = f"cifar{classes}_{model}"
    return Row(name, title, f"configs/{file}:{argument}", **data | fields)


def _code(value: float) -> Published:
    return Published(value, "released code")


def _abstract(value: float) -> Published:
    return Published(value, "abstract")


def _second_hand(value: float) -> Published:
    return Published(value, "second-hand")


NEST_TINY = dict(
    parameters=_code(17_057_608), multiply_adds=_abstract(5.8), paper=_code(81.5)
)
NEST_SMALL = dict(
    parameters=_code(38_351_176), multiply_adds=_abstract(10.4), paper=_code(83.3)
)
NEST_BASE = dict(
    parameters=_code(67_723_368), multiply_adds=_abstract(17.9), paper=_abstract(83.8)
)
BASELINES = (
    ("deit_tiny", "DeiT-T"),
    ("deit_small", "DeiT-S"),
    ("deit_base", "DeiT-B"),
    ("swin_tiny", "Swin-T"),
)

# Aggregations of which the paper says which is better, but not by how much.
AGGREGATIONS = (
    ("conv_avg_pool", "convolution, average pool"),
    ("conv_stride_2", "convolution of stride 2"),
    ("patch_merging", "patch merging (Swin)"),
    ("max_pool", "max-pool, no convolution"),
    ("block_plane", "convolution, max-pool on the block plane"),
)
_TINY_ONLY = {name: NEST_TINY[name] for name in ("parameters", "multiply_adds")}

TABLES = {
    table.name: table
    for table in (
        Table(
            "cifar10",
            "CIFAR-10 from scratch, 300 epochs",
            "top-1 accuracy",
            (
                *(_cifar(*model, 10) for model in BASELINES),
                _cifar("wrn_28_10", "WideResNet-28-10", 10),
                _cifar(
                    "nest_tiny",
                    "NesT-T",
                    10,
                    paper=_second_hand(96.04),
                    parameters=_code(6_006_730),
                ),
                _cifar(
                    "nest_small",
                    "NesT-S",
                    10,
                    paper=_second_hand(96.97),
                    parameters=_code(22_849_930),
                ),
                _cifar(
                    "nest_base",
                    "NesT-B",
                    10,
                    paper=_abstract(97.20),
                    parameters=_code(89_050_378),
                ),
            ),
            "how the paper cut images of 32 pixels for its comparisons is not known",
        ),
        Table(
            "cifar100",
            "CIFAR-100 from scratch, 300 epochs",
            "top-1 accuracy",
            (
                *(_cifar(*model, 100) for model in BASELINES),
                _cifar("wrn_28_10", "WideResNet-28-10", 100),
                _cifar("nest_tiny", "NesT-T", 100, paper=_second_hand(78.69)),
                _cifar("nest_small", "NesT-S", 100, paper=_second_hand(81.70)),
                _cifar("nest_base", "NesT-B", 100, paper=_abstract(82.56)),
            ),
            "how the paper cut images of 32 pixels for its comparisons is not known",
        ),
        Table(
            "imagenet",
            "ImageNet-1k at 224 pixels from scratch, 300 epochs",
            "top-1 accuracy",
            (
                *(
                    Row(
                        f"imagenet_{model}",
                        title,
                        f"configs/imagenet_baselines.py:{model}",
                        **IMAGENET,
                    )
                    for model, title in (*BASELINES, ("resnet50", "ResNet-50"))
                ),
                _imagenet("tiny", **NEST_TINY),
                _imagenet("small", **NEST_SMALL),
                _imagenet("base", **NEST_BASE),
            ),
            "the comparisons train with NesT's recipe",
        ),
        Table(
            "epochs",
            "ImageNet-1k, fewer epochs: NesT-B",
            "top-1 accuracy",
            (
                _imagenet(
                    "base",
                    name="imagenet_nest_base_30",
                    title="30 epochs",
                    epochs=30.0,
                    overrides={"num_epochs": 30.0, "warmup_epochs": 2.0},
                ),
                _imagenet(
                    "base",
                    name="imagenet_nest_base_100",
                    title="100 epochs",
                    epochs=100.0,
                    overrides={"num_epochs": 100.0, "warmup_epochs": 20 / 3},
                    paper=_abstract(82.3),
                ),
                _imagenet("base", **NEST_BASE | dict(title="300 epochs")),
            ),
            "the warm-up of the shorter runs is not known; here it is in proportion",
        ),
        Table(
            "augmentation",
            "Augmentation removal: NesT-T on ImageNet-1k",
            "top-1 accuracy",
            (
                _imagenet("tiny", **NEST_TINY | dict(title="whole recipe")),
                _imagenet(
                    "tiny",
                    name="no_random_erasing",
                    title="without random erasing",
                    overrides={"augment.random_erasing.probability": 0.0},
                    paper=_second_hand(81.4),
                    **_TINY_ONLY,
                ),
                _imagenet(
                    "tiny",
                    name="no_randaugment",
                    title="without RandAugment",
                    overrides={"augment.randaugment.layers": 0},
                    paper=_second_hand(81.2),
                    **_TINY_ONLY,
                ),
                _imagenet(
                    "tiny",
                    name="no_mixing",
                    title="without MixUp and CutMix",
                    overrides={
                        "augment.mix.mixup_alpha": 0.0,
                        "augment.mix.cutmix_alpha": 0.0,
                    },
                    paper=_second_hand(79.8),
                    **_TINY_ONLY,
                ),
            ),
            "whether the paper removes one after the other or each alone is not known; "
            "here each alone",
        ),
        Table(
            "aggregation",
            "Block aggregation: NesT-T on ImageNet-1k",
            "top-1 accuracy",
            (
                _imagenet(
                    "tiny",
                    **NEST_TINY | dict(title="convolution, max-pool (published)"),
                ),
                *(
                    _imagenet(
                        "tiny",
                        name=kind,
                        title=title,
                        overrides={"model.aggregation": kind},
                    )
                    for kind, title in AGGREGATIONS
                ),
            ),
            "of the comparison only the order is known (the published one is best), "
            "and not the model",
        ),
        Table(
            "localization",
            "Localization on ImageNet-1k",
            "top-1 localization error",
            (
                _imagenet(
                    "small",
                    name="localization_nest_small",
                    title="NesT-S, CAM",
                    method="cam",
                    paper=_second_hand(51.8),
                    parameters=NEST_SMALL["parameters"],
                    multiply_adds=NEST_SMALL["multiply_adds"],
                ),
                Row(
                    "localization_resnet50",
                    "ResNet-50, GradCAM++",
                    "",
                    paper=_second_hand(53.5),
                ),
                Row(
                    "localization_deit",
                    "DeiT, rollout",
                    "",
                    paper=_second_hand(67.6),
                ),
            ),
            "lower is better; the explanations here are of NesT only",
        ),
    )
}
