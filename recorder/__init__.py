"""An event-sourced account state recorder for the VALR exchange."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("valr-recorder")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+checkout"
