"""An application for the supervisor's test: what a device says becomes a file."""
