"""Google Cloud Storage as the rest of the project sees it: paths that begin with gs://, and errors that say what to do."""
