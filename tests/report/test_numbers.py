"""Numbers in a report: short, and never better than they are."""

import pytest
from factory import ratio

from trt_pipeline.report import numbers


@pytest.mark.parametrize(("text", "expected"), [
    (numbers.milliseconds(0.5), "0.50 ms"), (numbers.milliseconds(12.34), "12.3 ms"),
    (numbers.milliseconds(1234.5), "1,234 ms"), (numbers.seconds(0.0145), "14.5 ms"),
    (numbers.seconds(126.7), "2 min 6 s"),
    (numbers.size(7_359_546), "7.36 MB"), (numbers.size(812), "812 B"), (numbers.size(0), "-"),
    (numbers.error(0.0), "0"), (numbers.error(3.41e-7), "3.4e-07"), (numbers.decibels(300.0), "no error"),
    (numbers.decibels(-300.0), "no signal"), (numbers.ratio(ratio(11.0)), "11.0x [10.6, 11.4]"),
])
def test_formats(text: str, expected: str) -> None:
    assert text == expected


def test_only_a_whole_share_reads_100_percent() -> None:
    assert numbers.share(1.0) == "100 %"
    assert numbers.share(0.99999) == "99.99 %"
    assert numbers.share(0.9569) == "95.69 %"


def test_only_an_equal_direction_has_cosine_1() -> None:
    assert numbers.cosine(1.0) == "1"
    assert numbers.cosine(0.99999999) == "0.999999"


@pytest.mark.parametrize("shown", [numbers.milliseconds, numbers.seconds, numbers.size, numbers.megabytes, numbers.rate,
                                   numbers.error, numbers.share, numbers.cosine, numbers.decibels, numbers.ratio])
def test_nothing_is_a_dash(shown: object) -> None:
    assert callable(shown)
    assert shown(None) == numbers.NONE
