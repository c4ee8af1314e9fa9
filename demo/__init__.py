"""``make demo``: invented tenants on a live kernel; ksmwatch, the kernel's numbers and the truth.

``run`` works on the host: it chooses where, relays the screen and scrapes /metrics. ``show``
works where the kernel is, on the host or in the guest.
"""
