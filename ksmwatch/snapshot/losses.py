"""All kinds of loss, each of which may make a number wrong or unknown: labels of one metric."""

# All exist from the start, so that a rate() has a first point.
LOSSES = (
    "accounts_full",
    "ages_lost",
    "attach_failed",
    "connector_lost",
    "conversions_unseen",
    "events_lost",
    "families_changed",
    "families_truncated",
    "front_lost",
    "mm_opened_unseen",
    "probes_lost",
    "probes_stopped",
    "reads_denied",
    "reads_disturbed",
    "renewals",
    "run_unreadable",
    "sources_unreadable",
    "stale_accounts",
    "sums_wrong",
    "textfile_unwritten",
    "unattributed",
)
