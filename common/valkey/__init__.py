"""Valkey (or Redis 7 and later): what several processes share and can do without for a while."""
