"""Give a stored version another name: a copy inside B2, sent by the journal, that shows at once.

A copy is a draft over the version, as a rename makes one: it survives a crash, is retried, and B2 assembles
what is larger than it copies in one call.
"""

from b2mount.core.access import Operation
from b2mount.core.conflict_names import conflict_name
from b2mount.core.errors import NameTooLong
from b2mount.core.names import is_placeholder, shown
from b2mount.fs.overlay import Mark
from b2mount.fs.renames import attributes_of
from b2mount.fs.tree import Tree
from b2mount.fs.world import World
from b2mount.journal.drafts import AUTOMATIC_CONTENT_TYPE
from b2mount.journal.ops import Op, parents
from b2mount.store.store import FileVersion


def queue_copy(world: World, bucket_id: str, name: str, version: FileVersion) -> Op:
    """Queue a copy of *version* as *name*, and show it; durable after the next commit of the journal."""
    is_directory = is_placeholder(name[name.rfind("/") + 1 :], version.size)
    draft = world.journal.new_draft(
        attributes_of(version, is_directory=is_directory),
        base=version,
        content_type=version.content_type or AUTOMATIC_CONTENT_TYPE,
        keep=version.info,
    )
    op = world.journal.put(bucket_id, name, draft)
    world.overlay.set(bucket_id, name, draft)
    for directory in parents(name):
        if directory:
            world.overlay.set(bucket_id, directory, Mark.DIRECTORY)
    return op


def show_anew(world: World, tree: Tree, bucket_id: str, name: str) -> None:
    """Have the kernel look again at a name, and at the directories on the way to it."""
    child = tree.find_file(bucket_id, name)
    if child is not None:
        world.nodes.detach(child)
    for directory in parents(name):
        node = tree.find_directory(bucket_id, directory)
        if node is None:
            continue
        component = name[len(directory) :].partition("/")[0]
        for twin in (False, True):
            world.invalidate_entry(node.ino, shown(component, twin=twin))


async def keep_beside(world: World, tree: Tree, bucket_id: str, version: FileVersion) -> str:
    """Store a version that its name shows no more beside that name; return under which, once that is safe.

    Queued before the first await. Raises NameTooLong, what the access table refuses, OutOfSpace,
    LocalStorageError.
    """
    name = conflict_name(
        version.name, file_id=version.file_id, made_ms=version.uploaded_ms, limit=world.scope.limit
    )
    if name is None:
        raise NameTooLong(f"{version.name}: there is no room for a longer name beside it")
    world.demand(Operation.RESTORE, name)
    if not world.journal.shows(bucket_id, name) and world.journal.queue.tail(bucket_id, name) is None:
        queue_copy(world, bucket_id, name, version)  # else another host that found the same was here first
        show_anew(world, tree, bucket_id, name)
    await world.journal.commit()
    return name
