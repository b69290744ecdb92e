"""The blocks of the pages that neither test_pages.py nor test_recipes.py runs, each with the reason.

By page, and by how the block begins. A new block on a page is run (`<!-- run -->`) or has its reason here.
"""

HERE = "tests/test_pages.py"
ROOT_S = "wants root, and changes the machine's own files"
FSTAB = "a line of a file; tests/cli/test_mount_helper.py has the helper that such lines call"
TO_FILL_IN = "the reader's own key"
PICTURE = "a picture"
WORDS = "what is said: tests/cli/test_credentials_page.py compares it"
MINUTES = "takes minutes, and a machine for itself"

NOT_RUN: dict[str, dict[str, str]] = {
    "README.md": {
        "make demo": "what it does after installing, tests/cli/test_demo.py does; tests/fresh runs all of it",
        "make test": "is what runs this",
        "$ ls ~/b2mount-demo": f"a session, gone through in {HERE}",
        "sudo apt-get install": ROOT_S,
        "export B2_APPLICATION_KEY_ID=...": TO_FILL_IN,
        "ln -s": ROOT_S,
        "photos/2024  /mnt/photos  b2mount": FSTAB,
    },
    "docs/architecture.md": {
        "flowchart TB": PICTURE,
        "key → authorize": PICTURE,
        'lookup "a/b/c" →': PICTURE,
        "open → pinned": PICTURE,
        "open for writing →": PICTURE,
        "queue: one order": PICTURE,
    },
    "docs/benchmarks.md": {"make bench": MINUTES, "python -m tests.benchmarks": MINUTES},
    "docs/credentials.md": {
        "b2mount: error: the environment has": WORDS,
        "0018f5033aa08600000000001": "forms of a file: tests/cli/test_credentials_page.py reads them",
        "b2mount: warning: /home/ann/key can be read": WORDS,
        "b2mount: error: the application key holds the character": WORDS,
    },
    "docs/development.md": {
        "make test": "is what runs this",
        "export B2_TEST_KEY_ID=...": "wants an account of B2",
    },
    "docs/emulator.md": {
        "b2mount emulator": "stays in the foreground; every test runs one",
        "KEY=DIR/master-key.json": "tests/emulator/test_b2_tool.py and test_rclone.py run them",
        "U=http://127.0.0.1:8080/_control": "tests/emulator/test_docs.py has its own address there",
        "curl ": "run by tests/emulator/test_docs.py",
    },
    "docs/operating.md": {
        "ln -s": ROOT_S,
        "photos/2024  /mnt/photos  b2mount": FSTAB,
        "install -m 644 systemd/": ROOT_S,
        "b2mount config check photos": "wants systemd; tests/cli/test_units.py has what the units hold",
        "b2mount mount --profile photos": "three ways to say one mount; tests/cli has each",
        "source = ": f"a file, read in {HERE}",
        "docker run": "the image is the reader's",
    },
    "docs/recipes.md": {
        "export B2_APPLICATION_KEY_ID=...": TO_FILL_IN,
        "mkdir -p /srv/backup/duplicity": f"run in {HERE}, by the long run alone",
        "#!/bin/sh": "a script for a timer, which backs up the machine it runs on",
        "shared/ann  /srv/ann  b2mount": FSTAB,
        'mountpoint = "/srv/ann"': "a file; tests/cli/test_profiles.py reads such",
    },
}
