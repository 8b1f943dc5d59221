//! Limits of a connection, frame by frame.
