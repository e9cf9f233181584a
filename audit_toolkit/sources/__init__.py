"""From files and frames to coded rows; the only room that knows pyarrow and narwhals."""
