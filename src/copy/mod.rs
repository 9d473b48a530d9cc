//! Content from one place to another, without an archive between.

pub mod push_graph;
