"""Weak annotations made from pixel labels."""
