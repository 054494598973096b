"""An app whose jobs run in child processes, and tell the test what they do."""
