"""``ksmwatch top``: a live view of snapshots, in a terminal or as text for scripts."""
