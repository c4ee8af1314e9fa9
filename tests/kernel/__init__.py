"""Tests that run as root on a test kernel: `make test-kernel`."""
