//! What a request and its answer must be: an OpenAPI document, compiled once, read-only afterwards.
mod dialect;
mod document;
mod format;
mod operation;
mod paths;
mod pattern;
mod problem;
mod schema;
mod uri;
