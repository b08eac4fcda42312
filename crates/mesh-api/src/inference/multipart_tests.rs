//! Multipart bodies.
