"""From a record to bytes a person can read; knows no domain."""
