"""Hashes. hashlib would load OpenSSL too, a megabyte that the daemon has no other use for."""

from _blake2 import blake2b, blake2s

__all__ = ["blake2b", "blake2s"]
