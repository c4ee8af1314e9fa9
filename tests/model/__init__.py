"""The model of the counting protocol in docs/model, searched."""
