"""One decision per file: the folder is the kind, the file is the name. Each imports `headway.core` only."""
