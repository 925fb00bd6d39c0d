"""What a test run against a mutant does differently: a failing example is enough, nobody wants the smallest one."""

from __future__ import annotations

from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("mutants")
