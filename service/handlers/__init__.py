"""One module a resource, one short function a route: read, ask, act, reply."""
