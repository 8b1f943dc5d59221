//! The stage `authentication`: an operation's security requirement against a request's credentials.

use crate::contract::Matched;
use crate::pipeline::exchange::Exchange;
use crate::violation::Violation;

/// Checks that the request presents what its operation demands. It comes before the parameters: who
/// may not ask is not told what was wrong with the question.
pub(super) fn authentication(
    exchange: &Exchange<'_>,
    matched: &Matched<'_>,
) -> Result<(), Violation> {
    let request = &exchange.request;
    matched.operation.check_credentials(request.uri.query(), &request.headers)?;
    Ok(())
}
