"""Takes too long to import."""

import time

time.sleep(600)
