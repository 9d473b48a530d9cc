//! Who we are at a registry: challenges, tokens, auth files and the helpers that they name.

pub mod credential_helper;
pub mod docker_config;
pub mod token;
