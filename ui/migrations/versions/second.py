"""Add PIN, profiles, limits, visits, moods, alerts' delivery and the audit log; seal what children said so far.

In: the tables of revision 0001, and the sealer in `config.attributes`. Out: the tables of `ui/tables.py`.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the new tables and columns, and encrypt titles and messages in place."""
    op.create_table(
        "household",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key_check", sa.Text, nullable=False),
        sa.Column("pin_hash", sa.String(200)),
        sa.Column("pin_tries", sa.Integer, nullable=False),
        sa.Column("pin_locked_until", MOMENT),
        sa.Column("emergency", sa.Text, nullable=False),
        sa.Column("transcripts", sa.String(10), nullable=False),
        sa.Column("retention_days", sa.Integer, nullable=False),
    )
    for column in (
        sa.Column("avatar", sa.String(20), nullable=False, server_default="star"),
        sa.Column("minutes_a_day", sa.Integer, nullable=False, server_default="60"),
        sa.Column("quiet_from", sa.String(5), nullable=False, server_default="22:00"),
        sa.Column("quiet_to", sa.String(5), nullable=False, server_default="06:00"),
        sa.Column("break_minutes", sa.Integer, nullable=False, server_default="30"),
        sa.Column("blocked_topics", sa.Text, nullable=False, server_default=""),
        sa.Column("read_aloud", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("voice", sa.Boolean, nullable=False, server_default=sa.true()),
    ):
        op.add_column("children", column)
    op.add_column("conversations", sa.Column("name", sa.Text, nullable=False, server_default=""))
    op.add_column("conversations", sa.Column("hidden", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("messages", sa.Column("feedback", sa.String(10)))
    _seal("conversations", "title", "name")
    _seal("messages", "text", "text")
    op.drop_column("conversations", "title")
    _child_table("visits", ("began", "seen"), ("reminded", "rested"))
    op.create_index("ix_visits_seen", "visits", ["seen"])
    _child_table("moods", ("created",), (), sa.Column("mood", sa.String(10), nullable=False))
    op.create_table(
        "channels",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("created", MOMENT, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("alert_id", sa.Integer, sa.ForeignKey("alerts.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("channel_id", sa.Integer, sa.ForeignKey("channels.id", ondelete="CASCADE"), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("next_try", MOMENT, nullable=False, index=True),
        sa.Column("sent", MOMENT),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("what", sa.String(40), nullable=False),
        sa.Column("child_id", sa.Integer),
        sa.Column("conversation_id", sa.Integer),
    )
    _only_ever_added()


def downgrade() -> None:
    """Refuse: sealed words cannot be written back in the clear."""
    raise NotImplementedError("Revision 0002 cannot be undone; put back a copy of the database from before.")


def _child_table(name: str, moments: tuple[str, ...], maybe: tuple[str, ...], *more: sa.Column[str]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("child_id", sa.Integer, sa.ForeignKey("children.id", ondelete="CASCADE"), nullable=False, index=True),
        *(sa.Column(moment, MOMENT, nullable=False) for moment in moments),
        *(sa.Column(moment, MOMENT) for moment in maybe),
        *more,
    )


def _seal(table: str, plain: str, sealed: str) -> None:
    sealer = context.config.attributes["sealer"]
    connection = op.get_bind()
    for row_id, text in connection.execute(sa.text(f"SELECT id, {plain} FROM {table}")).all():
        connection.execute(
            sa.text(f"UPDATE {table} SET {sealed} = :sealed WHERE id = :id"),
            {"sealed": sealer.seal(text), "id": row_id},
        )


def _only_ever_added() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{act.lower()} BEFORE {act} ON audit"
                " BEGIN SELECT RAISE(ABORT, 'the audit log is only ever added to'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the audit log is only ever added to'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    )
