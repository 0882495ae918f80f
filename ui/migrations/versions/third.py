"""Seal the guardian's name; remember a deletion that the database's files may still hold.

In: the tables of revision 0002, and the sealer in `config.attributes`. Out: the tables of `ui/tables.py`.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Encrypt each name in place. The name in the clear lies in the files until they are next rewritten, so that is owed."""
    with op.batch_alter_table("consents") as consents:
        consents.alter_column("guardian", existing_type=sa.String(80), type_=sa.Text, existing_nullable=False)
    op.add_column("household", sa.Column("scrub_owed", sa.Integer, nullable=False, server_default="0"))
    sealer, connection = context.config.attributes["sealer"], op.get_bind()
    names = connection.execute(sa.text("SELECT id, guardian FROM consents")).all()
    for row_id, name in names:
        connection.execute(
            sa.text("UPDATE consents SET guardian = :sealed WHERE id = :id"),
            {"sealed": sealer.seal(name), "id": row_id},
        )
    if names:
        connection.execute(sa.text("UPDATE household SET scrub_owed = 1"))


def downgrade() -> None:
    """Refuse: a sealed name cannot be written back in the clear."""
    raise NotImplementedError("Revision 0003 cannot be undone; put back a copy of the database from before.")
