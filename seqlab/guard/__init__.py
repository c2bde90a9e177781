"""Decay curves as tests."""
