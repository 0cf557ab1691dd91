"""The audit trail: a chain of records for each tenant that shows whoever changed it."""
