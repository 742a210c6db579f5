"""What policies are tested with, those of other packages too: conformance suites and dry runs."""
