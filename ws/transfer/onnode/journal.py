"""Which chunks a target has, on disk beside it."""
