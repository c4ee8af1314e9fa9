"""The plan for the configuration. `plan` itself does not know what is configured."""

from __future__ import annotations

from ksmwatch.config import Config
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes.plan import Plan, Wish, choose


def plan_for(facts: Facts, settings: Config) -> Plan:
    """The plan for this host that is configured."""
    return choose(facts, Wish(settings.probes), ages=bool(settings.ages_one_in))
