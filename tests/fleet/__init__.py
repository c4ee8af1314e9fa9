"""Several hosts, each a guest with KSM and a daemon of its own, watched by one Prometheus."""
