//! A list of sources divided among several drives or hosts: the plan that all of them share.
//!
//! [`partition`] divides, [`planning`] makes the plan of what was gathered, [`plan_file`] keeps it, [`pins`] are what
//! registries said, and [`choice`] says which shard a run makes.

pub mod choice;
pub mod partition;
pub mod pins;
pub mod plan_file;
pub mod planning;
