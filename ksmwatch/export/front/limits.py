"""The limits of HTTP that no option sets: how long each step may take, and how large it may be.

`--web.max-connections` and `--web.max-requests` are the others.
"""

from __future__ import annotations

# From the connection to the end of its first request, TLS included.
NEW_SECONDS = 10.0
# From the first byte of a later request to its end.
READ_SECONDS = 10.0
# Between two requests: longer than common scrape intervals.
IDLE_SECONDS = 150.0
# For the client to take our answer.
WRITE_SECONDS = 30.0
# How long to wait for the daemon: usually longer than Prometheus waits.
ANSWER_SECONDS = 30.0
# Without room for connections: how long one may be silent.
GRACE_SECONDS = 2.0

MAX_HEADER_BYTES = 16384
MAX_BODY_BYTES = 65536

# The most checks of a password that may wait; further ones are refused.
MAX_WAITING_CHECKS = 16
