//! From the socket to the pipeline: accepting, framing, and the life of a connection.

pub mod framing;
