"""One file per topic; see ../run."""
