//! Who we are at a registry: challenges and the tokens that answer them; auth files and the helpers
//! that they name.

pub mod challenge;
pub mod credential_helper;
pub mod docker_config;
pub mod login;
pub mod token;
