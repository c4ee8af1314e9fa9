"""The Debian package and its service, on a separate Debian with the real systemd."""
