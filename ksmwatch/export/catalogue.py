"""The catalogue of metrics, as data.

`docs/metrics.md` is generated from it, and `exposition` refuses a name that is not in it.
"""

from __future__ import annotations

from ksmwatch.export.count_metrics import COUNT_METRICS
from ksmwatch.export.health_metrics import HEALTH_METRICS
from ksmwatch.export.metric_family import Spec

CATALOGUE: tuple[Spec, ...] = (*COUNT_METRICS, *HEALTH_METRICS)

PAGE_FILES = (
    "pages_shared",
    "pages_sharing",
    "pages_unshared",
    "pages_volatile",
    "ksm_zero_pages",
)
