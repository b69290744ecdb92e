"""Make and delete buckets: mkdir and rmdir in the root of a mount that shows all buckets.

Only with --manage-buckets and the key's right to it, and never through the journal: both are done when the
call returns.
"""

from b2mount.core.access import Operation
from b2mount.core.errors import AlreadyExists, NotPermitted
from b2mount.core.names import check_new_bucket
from b2mount.core.scope import RootBucket
from b2mount.fs.nodes import DirectoryNode
from b2mount.fs.tree import Tree
from b2mount.fs.world import World


class Buckets:
    """The buckets of an account, as directories of the root."""

    def __init__(self, world: World, tree: Tree) -> None:
        self._world = world
        self._tree = tree

    async def make(self, parent: DirectoryNode, name: str) -> DirectoryNode:
        """Create a private bucket. Raises NotPermitted, IllegalName, AlreadyExists, CapReached."""
        self._demand(Operation.MAKE_BUCKET)
        check_new_bucket(name)
        if any(bucket.name == name for bucket in await self._tree.buckets()):
            raise AlreadyExists(f"{name}: there is such a bucket")
        row = await self._world.store.create_bucket(name)
        bucket = RootBucket(row.bucket_id, row.name)
        self._tree.note_bucket(bucket)
        self._world.listings.seed_empty(row.bucket_id, "")
        return self._tree.bucket_node(parent, bucket)

    async def remove(self, parent: DirectoryNode, name: str) -> None:
        """Delete a bucket in which no version is left, hidden ones included.

        What is queued for it is sent first. Raises NotPermitted, NoSuchFile, DirectoryNotEmpty.
        """
        self._demand(Operation.REMOVE_BUCKET)
        node, _ = await self._tree.lookup(parent, name)
        assert isinstance(node, DirectoryNode)
        journal = self._world.journal
        waiting = [op for op in journal.queue.ops.values() if op.bucket_id == node.bucket_id]
        failures = await journal.uploader.wait_all(waiting)
        if failures:
            raise failures[0].error
        await self._world.store.delete_bucket(node.bucket_id)
        self._tree.drop_bucket(node.bucket_id)
        self._world.listings.forget(node.bucket_id, "")
        self._world.nodes.detach(node)

    def _demand(self, operation: Operation) -> None:
        world = self._world
        if not world.options.manage_buckets or world.scope.buckets is not None:
            world.demand(Operation.MKDIR)  # a read-only mount says so first
            raise NotPermitted(
                "buckets are made and deleted only with --manage-buckets, at an account's root"
            )
        world.demand(operation)
