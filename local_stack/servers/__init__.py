"""PostgreSQL and Valkey as parts of the stack, from their wheels, with data that lasts."""
