"""What there is to run, as data: manifests, schemas, packages, and what each may have."""
