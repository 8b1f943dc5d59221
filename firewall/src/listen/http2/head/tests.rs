//! Heads as h2 hands them up.
