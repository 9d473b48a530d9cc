//! Archives read back, whoever wrote them.
//!
//! [`tar`] goes from member to member and believes nothing; [`decompress`] gives it the stream in a
//! compressed one. [`events`] makes a stream of events of that: what reads archives is a consumer of
//! it. [`scan`] is one, which fills a [`catalog`] and finds what is wrong; [`open`] begins it. [`images`] are found in
//! the catalog, and [`lists`] are what `index.json` and `manifest.json` say. [`store`] gives what lies in a file.

pub mod catalog;
pub mod decompress;
pub mod document;
pub mod events;
pub mod finding;
pub mod foreign;
pub mod images;
pub mod lists;
pub mod open;
pub mod scan;
pub mod store;
pub mod tar;
pub mod tree;
