"""The overview as metrics for Prometheus' node_exporter (textfile collector), in the text exposition format 0.0.4.

A series is named by what stays the same from one renewal to the next; what changes is a value, or a label of an
``_info`` metric. Times are seconds since the epoch: an alert subtracts ``time()``, and goes on to be right when nothing
writes the file any more. node_exporter refuses a whole file for one series that occurs twice.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Optional

from certhooks import __version__
from certhooks.watch import words
from certhooks.watch.model import Level

if TYPE_CHECKING:
    from collections.abc import Mapping

    from certhooks.watch.model import Overview, Placement, Watched

_LEVELS = "0 ok, 1 warning, 2 critical, 3 unknown"
_HELP = {
    "build_info": "The version of certhooks that wrote this.",
    "overview_timestamp_seconds": "When this was seen.",
    "level": f"The worst of all ({_LEVELS}).",
    "findings": "How many things are worth telling, by level.",
    "certificate_level": f"The worst about a certificate and its targets ({_LEVELS}).",
    "certificate_info": "What is tracked, and certmonger's state.",
    "certificate_not_before_timestamp_seconds": "From when the tracked certificate is valid.",
    "certificate_not_after_timestamp_seconds": "Until when the tracked certificate is valid.",
    "target_level": f"The worst about a target ({_LEVELS}).",
    "target_info": "What a target is called, and what was last brought there.",
    "target_in_step": "Whether the target has the tracked certificate (1) or another (0); absent when it is not known.",
    "target_addresses": "How many addresses of the target were looked at.",
    "target_addresses_silent": "At how many of them no certificate was seen.",
    "target_served_not_after_timestamp_seconds": "Until when the first to end of the served certificates is valid.",
    "target_pushed_not_after_timestamp_seconds": "Until when what was last brought to the target is valid.",
    "target_last_success_timestamp_seconds": "When the target was last known to have what was pushed.",
    "target_last_attempt_timestamp_seconds": "When the last attempt began.",
    "target_next_attempt_timestamp_seconds": "When reconcile will try again; absent when there is no reason to.",
    "target_failures": "How many attempts in succession have failed.",
}


def text(overview: Overview) -> str:
    """Return the metrics; names and help come once, each series once: of two alike, that of the worst."""
    metrics = _Metrics()
    metrics.add("build_info", 1, {"version": __version__})
    metrics.add("overview_timestamp_seconds", overview.at)
    metrics.add("level", overview.level)
    found = [each.finding.level for each in words.told(overview)]
    for level in Level:
        metrics.add("findings", found.count(level), {"level": level.word})
    for watched in words.certificates(overview):
        _certificate(metrics, watched)
    return metrics.text()


class _Metrics:
    """The series of each metric, in the order of ``_HELP``."""

    def __init__(self) -> None:
        self._series: dict[str, dict[str, str]] = {name: {} for name in _HELP}

    def add(self, name: str, value: Optional[float], labels: Optional[Mapping[str, str]] = None) -> None:
        """Add a series; nothing when there is no value."""
        if value is None or not math.isfinite(value):
            return
        shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in (labels or {}).items())
        self._series[name].setdefault(f"{{{shown}}}" if shown else "", f"{value:.0f}")

    def text(self) -> str:
        """Return all that have a series."""
        lines = []
        for name, series in self._series.items():
            if series:
                lines += [f"# HELP certhooks_{name} {_HELP[name]}", f"# TYPE certhooks_{name} gauge"]
                lines += [f"certhooks_{name}{labels} {value}" for labels, value in series.items()]
        return "\n".join(lines) + "\n"


def _certificate(metrics: _Metrics, watched: Watched) -> None:
    labels = {"certificate": watched.name, "source": watched.source}
    leaf = watched.leaf
    more = {"origin": watched.origin, "state": watched.state, "fingerprint": leaf.fingerprint if leaf else ""}
    metrics.add("certificate_level", watched.level, labels)
    metrics.add("certificate_info", 1, {**labels, **more})
    if leaf:
        metrics.add("certificate_not_before_timestamp_seconds", leaf.not_before, labels)
        metrics.add("certificate_not_after_timestamp_seconds", leaf.not_after, labels)
    for placement in sorted(watched.placements, key=lambda each: -each.level.rank):
        _target(metrics, watched, placement, {**labels, "target": placement.target})


def _target(metrics: _Metrics, watched: Watched, placement: Placement, labels: Mapping[str, str]) -> None:
    seen = [sight.leaf for sight in placement.served if sight.leaf]
    ends = [leaf.not_after for leaf in seen if leaf.not_after is not None]
    pushed = placement.pushed.fingerprint if placement.pushed else ""
    metrics.add("target_level", placement.level, labels)
    metrics.add("target_info", 1, {**labels, "label": placement.label, "pushed": pushed})
    metrics.add("target_in_step", words.in_step(watched, placement), labels)
    metrics.add("target_addresses", len(placement.served), labels)
    metrics.add("target_addresses_silent", len(placement.served) - len(seen), labels)
    metrics.add("target_served_not_after_timestamp_seconds", min(ends, default=None), labels)
    metrics.add("target_pushed_not_after_timestamp_seconds", placement.pushed and placement.pushed.not_after, labels)
    metrics.add("target_last_success_timestamp_seconds", placement.pushed_at, labels)
    metrics.add("target_last_attempt_timestamp_seconds", placement.tried_at, labels)
    metrics.add("target_next_attempt_timestamp_seconds", placement.next_try, labels)
    metrics.add("target_failures", placement.failures, labels)


def _escaped(text: str) -> str:
    return words.clean(text).replace("\\", "\\\\").replace('"', '\\"')
