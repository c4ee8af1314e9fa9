"""The one error type of the harness: a sentence for a human, status 125."""

STATUS_HARNESS = 125


class HarnessError(Exception):
    """The guest could not be prepared, started or kept alive; says why in one sentence."""
