"""From accounts to counts: the ledger, exact reads, and the two ways to count."""
