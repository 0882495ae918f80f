"""Give the guardian a language. In: the tables of revision 0003. Out: a language in `household`."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add it. A family that is there keeps the one in which the parents' area was drawn: the newest child's."""
    op.add_column("household", sa.Column("language", sa.String(2), nullable=False, server_default="zh"))
    newest = "(SELECT language FROM children ORDER BY id DESC LIMIT 1)"
    op.execute(f"UPDATE household SET language = COALESCE({newest}, language)")


def downgrade() -> None:
    """Forget it."""
    op.drop_column("household", "language")
