"""Files: readers of every format, the writer that appends, backed access, atomic writes, locks."""
