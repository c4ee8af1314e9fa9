"""The shipped alerts, in the real Prometheus and Alertmanager, on real KSM."""
