"""nest.tables.generators: ratios by hand."""

from nest.tables.generators import markdown

FIGURES = dict(parameters=2_500_000, multiply_adds=1_250_000_000, peak_bytes=3_000_000)


def test_ratios_are_to_each_form_of_transgan():
    rows = [
        dict(name="nest_generator_64", form=None, images_per_second=12.0, **FIGURES),
        dict(name="transgan_64", form="whole", images_per_second=2.0, **FIGURES),
        dict(name="transgan_64", form="slices", images_per_second=4.0, **FIGURES),
        dict(name="nest_generator_16", form=None, images_per_second=1.0, **FIGURES),
    ]
    report = dict(
        what="generation",
        batch_size=1,
        dtype="float32",
        rounds=1,
        device="abacus",
        jax="0",
        rows=rows,
    )
    nest, whole, slices, other = markdown(report).split("\n")[4:8]
    start = "| nest_generator_64 | 2.5M | 74.4M | 1.25G | 12 "
    assert nest == start + "| 6.00x | 3.00x | 523.7 | 7.7x | 3 |"
    assert "whole attention" in whole and "| 1.00x | 0.50x | 67.7 | 1.0x |" in whole
    assert "| 2.00x | 1.00x | 67.7 | 1.0x |" in slices
    assert other.endswith("| 0.50x | 0.25x |  |  | 3 |")
