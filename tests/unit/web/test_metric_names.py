"""What percore's own metrics are called."""

from __future__ import annotations

import time
from typing import Any

from percore.supervisor.core.worker import figures
from percore.web.own_metrics import METRICS, MetricsSource, own_families
from percore.web.pages import encoded
from percore.web.snapshot import Snapshot


def source(**changes: Any) -> MetricsSource:
    app = {
        "name": "shop",
        "namespace": "default",
        "mode": "cluster",
        "release": None,
        "wanted": 1,
        "workers": [],
        **changes,
    }
    return MetricsSource(Snapshot(time.monotonic(), 0.0, "", {}, {"shop": app}, [], ""), {})


def test_names_follow_the_conventions_of_prometheus() -> None:
    for each in METRICS:
        assert each.name.startswith("percore_")
        assert not each.unit or each.name.endswith(f"_{each.unit}")
        assert not each.name.endswith(("_total", "_info", "_count"))
        assert each.help[0].isupper() or each.help[0].isdigit() or each.help.startswith("max_")
    assert len({each.name for each in METRICS}) == len(METRICS)


def test_every_cause_of_a_restart_has_a_series_from_the_beginning() -> None:
    text = encoded(own_families(source(counts={figures.CRASH: 2})), "").body.decode()
    for cause in figures.RESTART_CAUSES:
        assert f'percore_app_restarts_total{{app="shop",cause="{cause}"}} {2.0 if cause == "crash" else 0.0}' in text


def test_of_a_supervisor_that_does_not_count_yet_nothing_is_shown_rather_than_zero() -> None:
    text = encoded(own_families(source()), "").body.decode()
    assert "percore_app_wanted_workers" in text
    assert "restarts" not in text
