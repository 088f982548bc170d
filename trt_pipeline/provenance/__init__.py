"""Where a result comes from: a statement to sign, a bill of materials, and checksums that are verified."""
