//! What people and machines read: one printer, tables, trees, and how numbers are written.

mod printer;
mod quantity;
mod table;
mod text;
mod tree;

pub(crate) use printer::{Format, Printer};
pub(crate) use quantity::{ago, clock, in_words, latency, percent, rate, share};
pub(crate) use table::Table;
pub(crate) use text::{Style, Text};
pub(crate) use tree::{Columns, Node, render as render_tree};
