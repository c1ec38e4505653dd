"""Methods by name: how a stream of images teaches the network. Every module of this folder registers its own.

Planning a study reads the constants of its methods, so a module imports torch within its functions only.
"""

from weakseg.methods.registry import METHODS, Method, Shown, register_all

register_all()

__all__ = ["METHODS", "Method", "Shown"]
