"""The fixture under test, and pytest's own tools to test it with."""

pytest_plugins = ["pytester", "seqlab.pytest_plugin"]
