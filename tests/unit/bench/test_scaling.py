"""The table and the plot of `bench.scaling`."""

from __future__ import annotations

from tests.bench.scaling.figures import Curve, draw, render

SAMPLES = {
    "percore": {1: [900.0, 1000.0, 1100.0], 2: [1900.0]}, "pm2": {1: [800.0], 2: [1200.0]}, "nginx": {1: [700.0], 2: [1400.0]}
}  # fmt: skip


def test_the_table_has_medians_and_how_close_to_linear_they_are() -> None:
    lines = render(Curve("costly", "1 ms", SAMPLES)).splitlines()
    assert lines[2] == "| 1 | 1,000 (1.00 x) | 800 (1.00 x) | 700 (1.00 x) |"
    assert lines[3] == "| 2 | 1,900 (1.90 x) | 1,200 (1.50 x) | 1,400 (2.00 x) |"


def test_the_plot_has_a_line_for_each_side_and_one_for_what_is_linear_up_to_the_cores() -> None:
    text = draw([Curve("costly", "1 ms", SAMPLES)], cores=2)
    assert text.count("<path") == 1 + 1 + 3
    assert "processes behind NGINX" in text
    assert "2,000" in text  # the linear line is the highest
