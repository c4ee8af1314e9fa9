"""Hashes, without OpenSSL, which hashlib would load: a megabyte that the daemon does not need."""

from _blake2 import blake2b, blake2s

__all__ = ["blake2b", "blake2s"]
