"""Retrieve rows."""
