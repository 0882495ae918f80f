"""Give no number twice: SQLite gave a deleted row's number to the next one, where PostgreSQL's sequences never did.

In: the tables of revision 0004, with `PRAGMA foreign_keys` off (`ui/database.py` sees to that): a table is made anew,
and dropping the old one would empty those that point at it. Out: the same rows; on SQLite with AUTOINCREMENT.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = ("children", "conversations", "messages", "alerts", "channels", "deliveries", "visits")
LOGGED = {"children": "child_id", "conversations": "conversation_id"}


def upgrade() -> None:
    """Copy each table into a new one. The numbers that the log of accesses names are taken, though their rows are gone."""
    if op.get_bind().dialect.name != "sqlite":
        return
    for table in TABLES:
        with op.batch_alter_table(table, recreate="always", table_kwargs={"sqlite_autoincrement": True}):
            pass
    for table, column in LOGGED.items():
        known = f"SELECT max(id) AS number FROM {table} UNION SELECT max({column}) FROM audit"
        op.execute(f"DELETE FROM sqlite_sequence WHERE name = '{table}'")
        op.execute(f"INSERT INTO sqlite_sequence SELECT '{table}', coalesce(max(number), 0) FROM ({known})")


def downgrade() -> None:
    """Let it be: tables that give no number twice hold the same rows."""
