//! Why a piece of the lab could not be made.

use std::io;

/// What failed in making or using a network, told apart by what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The kernel refused for want of a capability: the lab cannot be used by this process.
    #[error("{operation} is not permitted: {capability} is missing")]
    NotPermitted {
        operation: &'static str,
        capability: &'static str,
        #[source]
        source: io::Error,
    },
    /// The kernel does not know how: it is built without namespaces, veth or the like.
    #[error("{operation} is not supported by this kernel")]
    Unsupported {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    /// Anything else, which is a bug or a machine out of resources.
    #[error("{operation} failed")]
    Failed {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}

impl LabError {
    /// Whether this process can have no lab at all, as against a lab that broke.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::NotPermitted { .. } | Self::Unsupported { .. })
    }

    /// An error of an operation that asks for `capability`.
    pub(crate) fn refused(
        operation: &'static str,
        capability: &'static str,
        source: io::Error,
    ) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted { operation, capability, source },
            // ENOSYS and EOPNOTSUPP.
            io::ErrorKind::Unsupported => Self::Unsupported { operation, source },
            _ => Self::Failed { operation, source },
        }
    }

    pub(crate) fn failed(operation: &'static str, source: io::Error) -> Self {
        Self::Failed { operation, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_tells_a_missing_capability_from_a_missing_feature() {
        for (errno, unavailable, text) in [
            (1, true, "testing is not permitted: CAP_TEST is missing"),
            (13, true, "testing is not permitted: CAP_TEST is missing"),
            (38, true, "testing is not supported by this kernel"),
            (95, true, "testing is not supported by this kernel"),
            (22, false, "testing failed"),
            (28, false, "testing failed"),
        ] {
            let error =
                LabError::refused("testing", "CAP_TEST", io::Error::from_raw_os_error(errno));
            assert_eq!(error.is_unavailable(), unavailable, "errno {errno}");
            assert_eq!(error.to_string(), text, "errno {errno}");
        }
    }
}
