"""A real FreeIPA server: built once, then started within seconds, each time as freshly installed."""
