"""Assetgate: a gateway in front of object storage that makes media private by default."""

__version__ = "0.1.0"
