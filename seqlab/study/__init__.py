"""Run one spec, and keep what it measured."""
