"""The tests themselves: none fails because the machine is slow or has other work."""

import pytest
from hypothesis import HealthCheck, settings


def test_no_example_must_be_quick(request: pytest.FixtureRequest) -> None:
    """Nor must those be of any test that was collected with this one."""
    tests = (getattr(item, "obj", None) for item in request.session.items)
    own = (getattr(test, "_hypothesis_internal_use_settings", None) for test in tests)
    for found in [settings(), *own]:
        if found is not None:
            assert found.deadline is None
            assert HealthCheck.too_slow in found.suppress_health_check
