"""What the service is held against: one process each, all with the same URLs, tokens and polls."""
