"""What the control process makes of the call records: an analytical store, questions to it, alerts, exports."""

import os

# Before NumPy is imported: linear algebra, which nobody here asks it for, would have a thread for each core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
