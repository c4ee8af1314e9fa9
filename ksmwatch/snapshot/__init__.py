"""The published state of one moment, and who may ask for it."""
