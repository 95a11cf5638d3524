"""The formats that cells are read from, a module each with its `READER`; see `registry.READERS` and `io.reading`."""
