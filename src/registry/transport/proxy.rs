//! Which proxy a request goes through, by the environment, as Go programs read it: `HTTPS_PROXY`
//! or `HTTP_PROXY` by the URL's scheme, else `ALL_PROXY`, unless `NO_PROXY` names the host. Each
//! may also be written in lower case. A loopback address is never behind a proxy.

use std::{env, net::IpAddr};

use ureq::Proxy;

use crate::{
    error::{Error, Result},
    oci::{is_loopback, split_port},
};

/// The proxies of this process.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exempt: Vec<Exempt>,
}

/// Whom `NO_PROXY` exempts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exempt {
    hosts: Hosts,
    /// Only at this port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// A network: address and length of its prefix in bits.
    Network(IpAddr, u8),
    /// A domain with all below it; the domain itself only if so said.
    Domain {
        name: String,
        itself: bool,
    },
}

impl Proxies {
    /// # Errors
    /// Wrong usage, if a variable holds no proxy's URL. The value, which may hold a password, is
    /// not shown.
    pub fn of_environment() -> Result<Proxies> {
        let lookup = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Proxies::new(&lookup)
    }

    fn new(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Proxies> {
        let either = |name: &'static str| {
            let value = lookup(name).or_else(|| lookup(&name.to_ascii_lowercase()));
            value.map(|value| (name, value))
        };
        let first =
            |name| either(name).or_else(|| either("ALL_PROXY")).map(|(name, url)| parse(name, &url)).transpose();
        let exempt = either("NO_PROXY").map(|(_, list)| list.split(',').filter_map(Exempt::parse).collect());
        Ok(Proxies { http: first("HTTP_PROXY")?, https: first("HTTPS_PROXY")?, exempt: exempt.unwrap_or_default() })
    }

    /// The proxy for a URL, if it is reached through one.
    pub fn of(&self, url: &str) -> Option<&Proxy> {
        let (scheme, rest) = url.split_once("://")?;
        let (proxy, usual) = if scheme == "https" { (&self.https, 443) } else { (&self.http, 80) };
        let authority = rest.split(['/', '?']).next()?;
        let authority = authority.rsplit('@').next()?;
        let (host, port) = split_port(authority);
        if is_loopback(host.trim_end_matches('.')) {
            return None;
        }
        let port = port.and_then(|port| port.parse().ok()).unwrap_or(usual);
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        proxy.as_ref().filter(|_| !self.exempt.iter().any(|exempt| exempt.matches(&host, address, port)))
    }
}

fn parse(name: &str, value: &str) -> Result<Proxy> {
    let value = if value.contains("://") { value.to_string() } else { format!("http://{value}") };
    // The proxy finds the host, as it does for Go programs: an isolated host may know no names.
    let value = match value.strip_prefix("socks5://") {
        Some(rest) => format!("socks5h://{rest}"),
        None => value,
    };
    let authority = value.split_once("://").map_or("", |(_, rest)| rest.trim_end_matches('/'));
    let address = authority.rsplit('@').next().unwrap_or("");
    let port = split_port(address).1.is_none_or(|port| port.parse::<u16>().is_ok());
    let usual = port && !address.is_empty() && !authority.contains('/');
    Proxy::new(&value).ok().filter(|_| usual).ok_or_else(|| {
        Error::usage("it is no proxy's URL, such as http://proxy.example.com:3128 or socks5://proxy.example.com:1080")
            .doing(format!("${name}"))
    })
}

impl Exempt {
    fn parse(text: &str) -> Option<Exempt> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Exempt { hosts: Hosts::All, port: None });
        }
        if let Some((address, length)) = text.split_once('/') {
            let hosts = Hosts::Network(address.parse().ok()?, length.parse().ok()?);
            return Some(Exempt { hosts, port: None });
        }
        let bare: Option<IpAddr> = text.trim_matches(['[', ']']).parse().ok();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if bare.is_none() => (host.to_string(), Some(port.parse().ok()?)),
            _ => (text, None),
        };
        let hosts = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => Hosts::Network(address, if address.is_ipv4() { 32 } else { 128 }),
            Err(_) => {
                let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
                Hosts::Domain { name: below.unwrap_or(&host).trim_end_matches('.').into(), itself: below.is_none() }
            }
        };
        Some(Exempt { hosts, port })
    }

    fn matches(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        match &self.hosts {
            Hosts::All => true,
            Hosts::Network(network, length) => address.is_some_and(|address| within(address, *network, *length)),
            Hosts::Domain { name, itself } => match host.strip_suffix(name.as_str()) {
                Some("") => *itself,
                Some(below) => below.ends_with('.'),
                None => false,
            },
        }
    }
}

fn within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let (address, network, bits) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    let host_bits = u32::from(bits - length.min(bits));
    (address ^ network).checked_shr(host_bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies> {
        Proxies::new(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string()))
    }

    fn port(proxies: &Proxies, url: &str) -> Option<u16> {
        proxies.of(url).map(Proxy::port)
    }

    #[test]
    fn the_scheme_chooses() {
        let all = [("HTTPS_PROXY", "p:1"), ("http_proxy", "http://u:secret@p:2"), ("ALL_PROXY", "socks5://p:3")];
        let three = proxies(&all).unwrap();
        assert_eq!(port(&three, "https://reg.io/v2/"), Some(1));
        assert_eq!(port(&three, "http://reg.io/v2/"), Some(2));
        let one = proxies(&all[2..]).unwrap();
        assert_eq!(port(&one, "http://reg.io"), Some(3));
        assert!(!one.of("https://reg.io").unwrap().resolve_target(), "the proxy finds the host");
        for local in ["http://localhost:5000/", "https://127.0.0.2", "http://[::1]:5000/v2/"] {
            assert_eq!(port(&one, local), None, "{local}");
        }
        let wrong = proxies(&[("HTTPS_PROXY", "gopher://u:secret@p")]).unwrap_err().to_string();
        assert!(wrong.contains("HTTPS_PROXY") && !wrong.contains("secret"), "{wrong}");
    }

    #[test]
    fn the_exempt() {
        let list = "reg.io, .sub.io,*.star.io,10.0.0.0/8,192.168.1.1,port.io:5000,fd00::/8,";
        let some = proxies(&[("ALL_PROXY", "p:1"), ("NO_PROXY", list)]).unwrap();
        for (host, direct) in [
            ("reg.io", true),
            ("REG.io:5000", true),
            ("a.reg.io", true),
            ("notreg.io", false),
            ("sub.io", false),
            ("a.sub.io", true),
            ("a.star.io", true),
            ("10.1.2.3:5000", true),
            ("11.1.2.3", false),
            ("192.168.1.1", true),
            ("192.168.1.2", false),
            ("port.io:5000", true),
            ("port.io", false),
            ("[fd00::1]:5000", true),
            ("[fe00::1]", false),
        ] {
            assert_eq!(port(&some, &format!("https://{host}/v2/")).is_none(), direct, "{host}");
        }
        let none = proxies(&[("ALL_PROXY", "p:1"), ("no_proxy", "*")]).unwrap();
        assert_eq!(port(&none, "https://reg.io"), None);
    }
}
