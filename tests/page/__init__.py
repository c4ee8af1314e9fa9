"""The page for a person, in a real browser: `make test-page`."""
