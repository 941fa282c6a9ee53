"""PACKAGES: which of them are installed, asked without loading any."""

from importlib import metadata, util


def is_installed(module: str) -> bool:
    """Whether `module` can be imported.

    A folder of that name in the current directory is none: Python would take it for a
    namespace, which has no file of its own.
    """
    spec = util.find_spec(module)
    return spec is not None and spec.origin is not None


def version(package: str) -> str | None:
    """The version that is installed; None if none is."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
