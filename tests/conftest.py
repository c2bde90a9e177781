"""The fixture under test, pytest's own tools for it, and no example that must be quick."""

import contextlib

pytest_plugins = ["pytester", "seqlab.pytest_plugin"]

with contextlib.suppress(ImportError):  # the environment of the CUDA tests has no Hypothesis
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "any machine",
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.function_scoped_fixture,  # the folders of several examples may be one
        ],
    )
    settings.load_profile("any machine")
