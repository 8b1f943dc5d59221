//! An error with what led to it, on one line: for a log and an operator, never for a client.

use std::error::Error;
use std::fmt;

/// The error, then each of its causes after a colon.
#[derive(Clone, Copy, Debug)]
pub struct Causes<'a>(pub &'a dyn Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer {
        source: std::io::Error,
    }

    #[test]
    fn causes_follow_their_error() {
        let error = Outer { source: std::io::Error::other("inner") };
        assert_eq!(Causes(&error).to_string(), "outer: inner");
        assert_eq!(Causes(&error.source).to_string(), "inner");
    }
}
