//! Services by name over the Majordomo Protocol: a broker, clients and workers.
