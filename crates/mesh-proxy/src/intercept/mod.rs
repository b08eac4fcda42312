//! Taking any program's traffic as it is: the rules that lead it here, and what the first bytes of a connection say it speaks.

pub mod client_hello;
pub mod detect;
pub mod init;
pub mod rules;
#[cfg(test)]
mod testing;
