"""``make demo``: made-up tenants on a live kernel, with ksmwatch beside the kernel and the truth.

``run`` works on the host: it chooses where, relays the screen and scrapes /metrics. ``show``
works where the kernel is, on the host or in the guest.
"""
