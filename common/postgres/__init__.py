"""PostgreSQL by asyncpg, where one commit is for many: statements made once, and the pool that runs them."""
