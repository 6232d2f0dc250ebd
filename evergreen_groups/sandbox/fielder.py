"""Flattened searches."""
