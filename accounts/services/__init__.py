"""Everything that changes accounts. Each subject has a module; callers import from those."""
