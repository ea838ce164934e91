"""Google Cloud Storage: paths that begin with gs://, and errors that say what to do."""
