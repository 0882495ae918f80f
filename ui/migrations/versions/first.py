"""Create every table. In: an empty database. Out: consents, children, conversations, messages, alerts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "consents",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("guardian", sa.String(80), nullable=False),
        sa.Column("given_at", moment, nullable=False),
        sa.Column("policy_version", sa.String(20), nullable=False),
        sa.Column("withdrawn_at", moment),
    )
    op.create_table(
        "children",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("nickname", sa.String(40), nullable=False),
        sa.Column("age_band", sa.String(8), nullable=False),
        sa.Column("language", sa.String(2), nullable=False),
    )
    op.create_table(
        "conversations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("child_id", sa.Integer, sa.ForeignKey("children.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("title", sa.String(80), nullable=False),
        sa.Column("created", moment, nullable=False),
        sa.Column("updated", moment, nullable=False, index=True),
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "conversation_id",
            sa.Integer,
            sa.ForeignKey("conversations.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("role", sa.String(10), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("action", sa.String(40)),
        sa.Column("category", sa.String(80)),
        sa.Column("contract", sa.String(80)),
        sa.Column("created", moment, nullable=False),
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("message_id", sa.Integer, sa.ForeignKey("messages.id", ondelete="CASCADE"), nullable=False),
        sa.Column("category", sa.String(80), nullable=False),
        sa.Column("created", moment, nullable=False),
        sa.Column("seen", sa.Boolean, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables, and with them everything that was kept."""
    for table in ("alerts", "messages", "conversations", "children", "consents"):
        op.drop_table(table)
