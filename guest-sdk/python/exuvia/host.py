"""The host: that of the engine, or a few dicts under CPython, for tests."""

try:
    import _exuvia as host
except ImportError:
    from .testing import host

__all__ = ["host"]
