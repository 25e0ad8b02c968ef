//! The kind of value that each key of `parent.toml` takes, so that the error for a wrong value shows a valid one.

use anyhow::{Result, bail};
use humantime_serde::re::humantime;
use toml::{Table, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Texts,
    Path,
    Paths,
    Port,
    Number,
    Numbers,
    Flag,
    Duration,
    /// One of the words in the example.
    Word,
    /// Values of registers.
    Registers,
    Table,
    Tables,
}

/// Every key, its kind, and a valid value.
const KEYS: &[(&str, Kind, &str)] = &[
    ("runtime_dir", Kind::Path, "\"/run/wg-server\""),
    ("wireguard", Kind::Table, "[wireguard]"),
    ("wireguard.interface", Kind::Text, "\"wg0\""),
    ("wireguard.private_key_path", Kind::Path, "\"/etc/wg-server/private.key\""),
    ("wireguard.listen_port", Kind::Port, "51820"),
    ("wireguard.addresses", Kind::Texts, "[\"203.0.113.1/24\"]"),
    ("wireguard.mtu", Kind::Number, "15360"),
    ("wireguard.persistent_keepalive", Kind::Duration, "\"15s\""),
    ("remote", Kind::Table, "[remote]"),
    ("remote.listen", Kind::Text, "\"192.0.2.10:821\""),
    ("remote.parents", Kind::Texts, "[\"192.0.2.0/24\"]"),
    ("enclaves", Kind::Table, "[enclaves]"),
    ("enclaves.ipv4_range", Kind::Text, "\"203.0.113.2-203.0.113.254\""),
    ("enclaves.ipv6_range", Kind::Text, "\"fd3b:74ac:9d21::2-fd3b:74ac:9d21::fe\""),
    ("enclaves.state_dir", Kind::Path, "\"/var/lib/wg-server\""),
    ("enclaves.enclave_to_enclave", Kind::Flag, "false"),
    ("attestation", Kind::Table, "[attestation]"),
    ("attestation.measurements_paths", Kind::Paths, "[\"/etc/wg-server/measurements.json\"]"),
    ("attestation.pcrs", Kind::Registers, "{ 8 = [\"96 hex digits\"] }"),
    ("attestation.root_path", Kind::Path, "\"/etc/wg-server/lab-root.pem\""),
    ("attestation.key_lifetime", Kind::Duration, "\"1h\""),
    ("nat", Kind::Table, "[nat]"),
    ("nat.uplink", Kind::Text, "\"eth0\""),
    ("nat.nft_path", Kind::Path, "\"/usr/sbin/nft\""),
    ("nat.forwards", Kind::Tables, "[[nat.forwards]]"),
    ("nat.forwards.port", Kind::Port, "443"),
    ("nat.forwards.to", Kind::Text, "\"203.0.113.2:443\""),
    ("egress", Kind::Table, "[egress]"),
    ("egress.destinations", Kind::Texts, "[\"169.254.169.254:80\"]"),
    ("egress.lists", Kind::Tables, "[[egress.lists]]"),
    ("egress.lists.name", Kind::Text, "\"billing\""),
    ("egress.lists.names", Kind::Texts, "[\"api.example.com\"]"),
    ("egress.lists.destinations", Kind::Texts, "[\"10.0.0.0/16:443\"]"),
    ("egress.lists.cids", Kind::Numbers, "[16]"),
    ("egress.lists.measurements_paths", Kind::Paths, "[\"/etc/wg-server/measurements.json\"]"),
    ("egress.mode", Kind::Word, "\"enforce\" or \"observe\""),
    ("dns", Kind::Table, "[dns]"),
    ("dns.allow_list_path", Kind::Path, "\"/etc/wg-server/dns-allow-list.txt\""),
    ("dns.forwarders", Kind::Texts, "[\"169.254.169.253\"]"),
    ("dns.deny", Kind::Word, "\"nxdomain\" or \"refused\""),
    ("dns.dnssec", Kind::Flag, "false"),
    ("dns.query_log_path", Kind::Path, "\"/var/log/wg-server/query.log\""),
    ("dns.named_path", Kind::Path, "\"/usr/sbin/named\""),
    ("dns.user", Kind::Text, "\"bind\""),
    ("dns.named_socket_path", Kind::Path, "\"/run/wg-named/socket\""),
    ("metrics", Kind::Table, "[metrics]"),
    ("metrics.listen", Kind::Text, "\"127.0.0.1:9586\""),
    ("watchdog", Kind::Table, "[watchdog]"),
    ("watchdog.interval", Kind::Duration, "\"10s\""),
    ("watchdog.tunnel_within", Kind::Duration, "\"1m\""),
    ("watchdog.handshake_within", Kind::Duration, "\"3m\""),
    ("watchdog.ready_port", Kind::Port, "443"),
    ("watchdog.ready_within", Kind::Duration, "\"10s\""),
    ("watchdog.ready_failures", Kind::Number, "3"),
    ("watchdog.backoff", Kind::Duration, "\"1m\""),
    ("watchdog.restarts", Kind::Number, "5"),
    ("watchdog.restarts_within", Kind::Duration, "\"1h\""),
];
/// Refuses the first value whose kind does not fit its key. Does not check for missing or unknown keys.
pub(super) fn ensure(table: &Table) -> Result<()> {
    walk(table, "")
}

fn walk(table: &Table, above: &str) -> Result<()> {
    for (key, value) in table {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        let Some((_, kind, example)) = KEYS.iter().find(|(known, ..)| *known == path) else { continue };
        if !kind.fits(value) {
            bail!("{path}: {}, expected {} such as {example}", shown(value), kind.name());
        }
        if let Some(inner) = value.as_table().filter(|_| *kind == Kind::Table) {
            walk(inner, &path)?;
        }
        for inner in value.as_array().into_iter().flatten().filter_map(Value::as_table) {
            walk(inner, &path)?;
        }
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    const ENOUGH: usize = 60;
    let text = value.to_string().replace('\n', " ");
    if text.chars().count() <= ENOUGH { text } else { text.chars().take(ENOUGH).chain("...".chars()).collect() }
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        let all = |is_right: fn(&Value) -> bool| value.as_array().is_some_and(|values| values.iter().all(is_right));
        match self {
            Self::Text | Self::Path | Self::Word => value.is_str(),
            Self::Texts | Self::Paths => all(Value::is_str),
            Self::Port => value.as_integer().is_some_and(|port| u16::try_from(port).is_ok()),
            Self::Number => is_number(value),
            Self::Numbers => all(is_number),
            Self::Flag => value.is_bool(),
            Self::Duration => value.as_str().is_some_and(|text| humantime::parse_duration(text).is_ok()),
            Self::Registers => value.as_table().is_some_and(|table| {
                table.values().all(|values| values.as_array().is_some_and(|values| values.iter().all(Value::is_str)))
            }),
            Self::Table => value.is_table(),
            Self::Tables => all(Value::is_table),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Texts => "a list of texts",
            Self::Path => "a path",
            Self::Paths => "a list of paths",
            Self::Port => "a port",
            Self::Number => "a number",
            Self::Numbers => "a list of numbers",
            Self::Flag => "true or false,",
            Self::Duration => "a duration",
            Self::Word => "a word",
            Self::Registers => "a table of registers",
            Self::Table => "a table",
            Self::Tables => "a list of tables",
        }
    }
}

fn is_number(value: &Value) -> bool {
    value.as_integer().is_some_and(|number| u32::try_from(number).is_ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Config;

    const LAB: &str = include_str!("../../tests/parent.toml");

    fn error(text: &str) -> String {
        format!("{:#}", Config::parse(text).unwrap_err())
    }

    /// The lab's file with one value in another's place.
    fn with(path: &str, value: &Value) -> String {
        let mut file: Table = LAB.parse().unwrap();
        let remote = "listen = \"192.0.2.10:821\"\nparents = [\"192.0.2.0/24\"]".parse::<Table>().unwrap();
        file.insert("remote".to_owned(), remote.into());
        let list = "name = \"a\"\nnames = [\"a.example\"]\ncids = [16]".parse::<Table>().unwrap();
        let lists: Value = vec![Value::from(list)].into();
        file.insert("egress".to_owned(), Table::from_iter([("lists".to_owned(), lists)]).into());
        for name in ["metrics", "watchdog"] {
            file.insert(name.to_owned(), Table::new().into());
        }
        let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
        let inner = above.split('.').filter(|name| !name.is_empty()).fold(&mut file, |table, name| {
            let inner = table.get_mut(name).unwrap();
            if inner.is_array() { inner.as_array_mut().unwrap()[0].as_table_mut() } else { inner.as_table_mut() }
                .unwrap()
        });
        inner.insert(key.to_owned(), value.clone());
        toml::to_string(&file).unwrap()
    }

    #[test]
    fn every_key_names_itself_and_what_would_be_right() {
        let date: Value = "x = 1979-05-27".parse::<Table>().unwrap().remove("x").unwrap();
        for (path, kind, example) in KEYS.iter() {
            for wrong in [date.clone(), Value::from(-1), Value::from("x"), Value::from(vec![1, 2]), Value::from(1.5)] {
                if kind.fits(&wrong) {
                    continue;
                }
                let error = error(&with(path, &wrong));
                let expected = format!("{path}: {}, expected {} such as {example}", shown(&wrong), kind.name());
                assert_eq!(error, expected, "{wrong}");
            }
        }
    }

    #[test]
    fn a_quoted_port_and_a_bare_duration_are_answered_with_one_that_is_right() {
        let replaced = |from: &str, to: &str| error(&LAB.replacen(from, to, 1));
        assert_eq!(
            replaced("listen_port = 51820", "listen_port = \"51820\""),
            "wireguard.listen_port: \"51820\", expected a port such as 51820"
        );
        assert_eq!(
            replaced("key_lifetime = \"1h\"", "key_lifetime = 1"),
            "attestation.key_lifetime: 1, expected a duration such as \"1h\""
        );
        assert_eq!(
            replaced("key_lifetime = \"1h\"", "key_lifetime = \"1 hours and a half\""),
            "attestation.key_lifetime: \"1 hours and a half\", expected a duration such as \"1h\""
        );
    }

    #[test]
    fn every_key_that_is_read_has_a_kind() {
        for table in [
            "",
            "wireguard",
            "remote",
            "enclaves",
            "attestation",
            "nat",
            "nat.forwards",
            "egress",
            "egress.lists",
            "dns",
            "watchdog",
        ] {
            let path = format!("{table}.nonsense");
            let error = error(&with(path.trim_start_matches('.'), &Value::from(1)));
            let expected = error.split_once(", expected ").unwrap().1;
            let read: BTreeSet<&str> = expected.split('`').skip(1).step_by(2).collect();
            let known = KEYS.iter().filter_map(|(path, ..)| match path.rsplit_once('.') {
                Some((above, key)) => (above == table).then_some(key),
                None => table.is_empty().then_some(*path),
            });
            assert_eq!(read, known.collect(), "[{table}]: {error}");
        }
    }
}
