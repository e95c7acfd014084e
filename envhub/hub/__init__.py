"""The trusted host side: manifests, workers, pools and sessions."""
