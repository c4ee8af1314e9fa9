"""The Debian package and its service, on a Debian of its own with the real systemd."""
