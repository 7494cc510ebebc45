//! Where a process may connect to: hosts and ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Hosts and ports that are granted: `api.example.com:443`, `*.example.com:443`, `10.0.0.0/8:*`, `[fd00::]/8:80`, `*:443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    hosts: Hosts,
    /// `None`: any.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    /// Any name, and any public address.
    Any,
    /// This name, in small letters.
    Name(String),
    /// All names below this one.
    Below(String),
    /// All addresses with this prefix.
    Network(IpAddr, u8),
}

impl Destination {
    /// Returns whether all that `other` grants is granted by this one.
    pub fn covers(&self, other: &Destination) -> bool {
        let hosts = match (&self.hosts, &other.hosts) {
            (Hosts::Any, Hosts::Network(..)) => false,
            (Hosts::Any, _) => true,
            (Hosts::Network(outer, bits), Hosts::Network(inner, more)) => {
                more >= bits && is_within(*inner, *outer, *bits)
            }
            (Hosts::Below(outer), Hosts::Name(inner) | Hosts::Below(inner)) => {
                is_below(inner, outer) || (outer == inner && matches!(other.hosts, Hosts::Below(_)))
            }
            (hosts, others) => hosts == others,
        };
        hosts && (self.port.is_none() || self.port == other.port)
    }

    /// Returns whether a host, a name or an address, may be asked for.
    pub(super) fn names(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse();
        let hosts = match (&self.hosts, literal) {
            (Hosts::Any, _) => true,
            (Hosts::Network(outer, bits), Ok(address)) => is_within(address, *outer, *bits),
            (Hosts::Name(name), Err(_)) => *name == host,
            (Hosts::Below(name), Err(_)) => is_below(&host, name),
            _ => false,
        };
        hosts && self.port.is_none_or(|known| known == port)
    }

    /// Returns whether this names an address by its network.
    pub(super) fn reaches(&self, address: IpAddr, port: u16) -> bool {
        matches!(self.hosts, Hosts::Network(outer, bits) if is_within(address, outer, bits))
            && self.port.is_none_or(|known| known == port)
    }
}

/// Makes a network. One of IPv4 that is written as IPv6 is one of IPv4.
fn network(address: IpAddr, bits: u8) -> Result<Hosts, String> {
    match (address, plain(address)) {
        (IpAddr::V6(_), address @ IpAddr::V4(_)) => match bits.checked_sub(96) {
            Some(bits) => Ok(Hosts::Network(address, bits)),
            None => Err("such a prefix has IPv4 and IPv6 addresses: write them apart".into()),
        },
        (address, _) => Ok(Hosts::Network(address, bits)),
    }
}

fn is_below(name: &str, outer: &str) -> bool {
    name.strip_suffix(outer)
        .is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
}

/// An IPv4 address that is written as an IPv6 one is that IPv4 address.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (plain(address), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differ = u32::from(address) ^ u32::from(network);
            differ.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differ = u128::from(address) ^ u128::from(network);
            differ.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Returns whether an address is one of the public internet: not of this machine, of a private network, or of many.
pub(super) fn is_public(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    // RFC 6890, beside what the standard library has names for.
    let is_special = first == 0
        || (first == 100 && (64..128).contains(&second))
        || (first == 192 && second == 0 && third == 0)
        || (first == 198 && (18..20).contains(&second))
        || first >= 240;
    !(is_special
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Addresses of the internet are in 2000::/3. Some of these contain an IPv4 address: 6to4 and Teredo.
    let embeds_v4 = first == 0x2002 || (first == 0x2001 && second == 0);
    let is_documentation = first == 0x2001 && second == 0xdb8;
    first & 0xe000 == 0x2000 && !embeds_v4 && !is_documentation
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Destination, String> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or("it has no port: write `:443`, or `:*` for any")?;
        let port = match port {
            "*" => None,
            port => Some(
                port.parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| format!("`{port}` is no port"))?,
            ),
        };
        let hosts = match host.split_once('/') {
            Some((address, bits)) => {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                let address: IpAddr = address
                    .parse()
                    .map_err(|_| format!("`{address}` is no address of a network"))?;
                let most = if address.is_ipv4() { 32 } else { 128 };
                let bits = bits.parse().ok().filter(|bits| *bits <= most);
                let bits = bits.ok_or_else(|| format!("a prefix has at most {most} bits"))?;
                network(address, bits)?
            }
            None => Destination::host(host)?,
        };
        Ok(Destination { hosts, port })
    }
}

impl Destination {
    fn host(host: &str) -> Result<Hosts, String> {
        let literal = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if let Ok(address) = literal.unwrap_or(host).parse::<IpAddr>() {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return network(address, bits);
        }
        let (name, is_below) = match host.strip_prefix("*.") {
            Some(name) => (name, true),
            None if host == "*" => return Ok(Hosts::Any),
            None => (host, false),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let is_label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(format!("`{host}` is no name of a host"));
        }
        Ok(if is_below {
            Hosts::Below(name)
        } else {
            Hosts::Name(name)
        })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::Any => f.write_str("*")?,
            Hosts::Name(name) => f.write_str(name)?,
            Hosts::Below(name) => write!(f, "*.{name}")?,
            Hosts::Network(IpAddr::V4(address), bits) => write!(f, "{address}/{bits}")?,
            Hosts::Network(IpAddr::V6(address), bits) => write!(f, "[{address}]/{bits}")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to(text: &str) -> Destination {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_destination_names_hosts_and_ports() {
        for (granted, host, port, is_named) in [
            ("api.example.com:443", "API.example.com.", 443, true),
            ("api.example.com:443", "api.example.com", 80, false),
            ("api.example.com:443", "example.com", 443, false),
            ("*.example.com:*", "a.b.example.com", 1, true),
            ("*.example.com:*", "example.com", 1, false),
            ("*.example.com:*", "badexample.com", 1, false),
            ("10.0.0.0/8:*", "10.1.2.3", 80, true),
            ("10.0.0.0/8:*", "11.1.2.3", 80, false),
            ("10.0.0.0/8:*", "::ffff:10.1.2.3", 80, true),
            ("127.0.0.1:80", "127.0.0.1", 80, true),
            ("[::ffff:10.0.0.0]/104:*", "10.1.2.3", 80, true),
            ("[::ffff:10.0.0.0]/104:*", "11.1.2.3", 80, false),
            ("[::]/0:*", "10.1.2.3", 80, false),
            ("[fd00::]/8:80", "[fd00::1]", 80, true),
            ("[::1]:80", "::1", 80, true),
            ("0.0.0.0/0:*", "8.8.8.8", 1, true),
            ("*:443", "anything.org", 443, true),
        ] {
            assert_eq!(
                to(granted).names(host, port),
                is_named,
                "{granted} {host}:{port}"
            );
        }
    }

    #[test]
    fn what_is_no_destination_says_why() {
        for (text, error) in [
            ("example.com", "it has no port"),
            ("example.com:0", "`0` is no port"),
            ("example.com:70000", "`70000` is no port"),
            ("exa mple.com:1", "`exa mple.com` is no name"),
            ("a..b:1", "`a..b` is no name"),
            ("10.0.0.0/33:1", "a prefix has at most 32 bits"),
            ("example.com/8:1", "`example.com` is no address"),
            (":1", "`` is no name"),
            ("[::ffff:10.0.0.0]/16:1", "such a prefix has IPv4 and IPv6"),
        ] {
            let found = text.parse::<Destination>().unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }

    #[test]
    fn only_the_internet_is_public() {
        for address in ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "2001:db8::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    fn destination() -> impl Strategy<Value = Destination> {
        let hosts = prop_oneof![
            Just("*".to_owned()),
            "(\\*\\.)?[ab](\\.[ab]){0,2}",
            (any::<u8>(), 0_u8..=32).prop_map(|(a, bits)| format!("10.{a}.0.0/{bits}")),
            (any::<u8>(), 0_u8..=128).prop_map(|(a, bits)| format!("[fd{a:02x}::]/{bits}")),
            (any::<u8>(), 96_u8..=128).prop_map(|(a, bits)| format!("[::ffff:10.{a}.0.0]/{bits}")),
            (0_u8..=128).prop_map(|bits| format!("[::]/{bits}")),
        ];
        let ports = prop_oneof![
            Just("*".to_owned()),
            (1_u16..4).prop_map(|port| port.to_string())
        ];
        (hosts, ports).prop_map(|(host, port)| to(&format!("{host}:{port}")))
    }

    proptest! {
        #[test]
        fn it_is_read_as_it_is_shown(destination in destination()) {
            prop_assert_eq!(to(&destination.to_string()), destination);
        }

        /// What a child is granted within its parent's grant, the parent may do as well.
        #[test]
        fn what_is_covered_is_no_more(
            outer in destination(),
            inner in destination(),
            host in "[ab](\\.[ab]){0,3}|10\\.[0-9]{1,2}\\.0\\.[0-9]|::[0-9]|fd0[0-9]::1|::ffff:10\\.0\\.0\\.[0-9]",
            port in 1_u16..4,
        ) {
            prop_assert!(outer.covers(&outer));
            if outer.covers(&inner) {
                prop_assert!(!inner.names(&host, port) || outer.names(&host, port));
                if let Ok(address) = host.parse() {
                    prop_assert!(!inner.reaches(address, port) || outer.reaches(address, port));
                }
            }
        }
    }
}
