"""Link `build/typing/attnspec/<folder>` to each top-level folder, for tools that read files instead of importing.

The editable install maps `attnspec.*` to the folders with an import hook. Python follows it; mypy and pyright cannot.
`PYTHONPATH=build/typing` also runs the tools without any install.
"""

import os
from pathlib import Path

FOLDERS = ("spec", "codegen", "generated", "harness")


def main() -> None:
    """Make the links that are missing."""
    root = Path(__file__).resolve().parents[1]
    tree = root / "build" / "typing" / "attnspec"
    tree.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        link = tree / name
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(root / name, tree), target_is_directory=True)


if __name__ == "__main__":
    main()
