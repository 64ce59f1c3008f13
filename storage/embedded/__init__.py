"""The embedded database server: engines, the guard that keeps one running, and its directory.

``server`` is what a service or a command uses. It takes the lock of the data directory and starts
the *guard* (``guard``), a small process that keeps the server of an *engine* (``engines``) running.
Nothing is imported here, so that the guard loads neither the driver nor the engines.
"""
