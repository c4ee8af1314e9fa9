"""Dashboards for Grafana as code: `make dashboards` writes grafana/dashboards/*.json."""
