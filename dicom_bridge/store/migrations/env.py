"""Called by alembic: the steps run on the connection that `upgrade` was given, in its transaction."""

from __future__ import annotations

from alembic import context

from dicom_bridge.store.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the transaction is the caller's
)
context.run_migrations()
