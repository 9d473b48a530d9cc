//! HTTP and TLS below the registries: one request, proxies, retries, certificates.

pub mod encoding;
pub mod failure;
pub mod http;
pub mod pace;
pub mod proxy;
pub mod retry;
pub mod tcp;
pub mod tls;
pub mod tls_connector;
pub mod url;
