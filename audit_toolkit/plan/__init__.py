"""From a plan to a record: read the plan, run its sections, apply its requirements."""
