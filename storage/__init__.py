"""Everything that knows MongoDB; the packages above use it through this one."""
