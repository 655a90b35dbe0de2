//! Durable queues and small tables on disk.
