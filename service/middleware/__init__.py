"""What every request passes on its way to its handler, outermost first: scope, problems, tokens."""
