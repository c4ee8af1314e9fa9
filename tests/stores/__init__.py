"""Made-up hosts, a Prometheus that scrapes them, and stores to which it writes; no kernel."""
