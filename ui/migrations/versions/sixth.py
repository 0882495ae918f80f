"""Seal the PIN's hash: four digits are guessed in minutes by whoever has it.

In: the tables of revision 0005, and the sealer in `config.attributes`. Out: the tables of `ui/tables.py`.
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Encrypt it in place. The hash in the clear lies in the files until they are next rewritten, so that is owed."""
    with op.batch_alter_table("household") as household:
        household.alter_column("pin_hash", existing_type=sa.String(200), type_=sa.Text, existing_nullable=True)
    sealer, connection = context.config.attributes["sealer"], op.get_bind()
    for check, pin_hash in connection.execute(sa.text("SELECT key_check, pin_hash FROM household")).all():
        sealer.open(check)  # sealed with a key that does not fit, the PIN would open nothing any more
        if pin_hash is not None:
            connection.execute(
                sa.text("UPDATE household SET pin_hash = :sealed, scrub_owed = scrub_owed + 1"),
                {"sealed": sealer.seal(pin_hash)},
            )


def downgrade() -> None:
    """Refuse: a sealed hash cannot be written back in the clear."""
    raise NotImplementedError("Revision 0006 cannot be undone; put back a copy of the database from before.")
