"""Run the migrations on the connection that `ui/database.py` hands over. Alembic runs this file; nobody imports it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
