"""Report room: reads result files, makes tables, figures, the index page and the reference collection.

Nothing is computed here that a run did not write down; nothing is imported here, so that a command that writes a table
does not wait for a drawing library.
"""
