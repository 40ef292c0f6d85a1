"""The open hosts of one worker, with their guests and leases. This package does not use Robot Framework."""
