//! Where a PostgreSQL database is: its URL, checked, and without its password wherever it is shown.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::error::Error;

/// A connection is made within this time, or not at all, unless the URL has a `connect_timeout`.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// What was sent and not acknowledged for so long was sent in vain, unless the URL has a `tcp_user_timeout`.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// A connection without traffic is looked after this often.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The address of a PostgreSQL database, as `postgres://user:password@host:port/database?option=value`.
/// Showing it, in whichever way, shows no password.
#[derive(Clone)]
pub struct Address {
    config: Box<Config>,
    shown: String,
}

impl Address {
    pub(super) fn config(&self) -> &Config {
        &self.config
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl FromStr for Address {
    type Err = Error;

    /// `InvalidAddress` says which rule is broken. It does not show the text: there may be a password anywhere in it.
    fn from_str(text: &str) -> Result<Address, Error> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(Error::InvalidAddress("it does not begin with postgres:// or postgresql://"));
        }
        let mut config: Config = text.parse().map_err(|_| {
            Error::InvalidAddress(
                "it is not of the form postgres://user:password@host:port/database?option=value",
            )
        })?;
        if config.get_hosts().is_empty() {
            return Err(Error::InvalidAddress("it names no host (a folder with a socket is ?host=/folder)"));
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(Error::InvalidAddress("it names no database"));
        }
        if config.get_ssl_mode() == SslMode::Require {
            return Err(Error::InvalidAddress(
                "sslmode=require is not available in this version; use a socket, this host or an encrypted network",
            ));
        }
        // Nothing is gained by asking for what cannot be answered.
        config.ssl_mode(SslMode::Disable);
        config.application_name("buildyard").keepalives_idle(KEEPALIVE);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_LIMIT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE_LIMIT);
        }
        let shown = shown(&config);
        Ok(Address { config: Box::new(config), shown })
    }
}

fn shown(config: &Config) -> String {
    let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| {
        let port = config.get_ports().get(index).or(config.get_ports().first()).unwrap_or(&5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(folder) => format!("{}:{port}", folder.display()),
        }
    });
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    format!(
        "postgres://{user}{}/{}",
        hosts.collect::<Vec<_>>().join(","),
        config.get_dbname().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (text, expect) in [
            ("postgres://me:secret@db.example/yard", "postgres://me@db.example:5432/yard"),
            ("postgresql://me@db:6432/yard?password=secret", "postgres://me@db:6432/yard"),
            ("postgres:///yard?host=/run/postgresql&user=me", "postgres://me@/run/postgresql:5432/yard"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), expect);
            assert_eq!(format!("{address:?}"), expect);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_its_rule_and_not_shown() {
        for (text, expect) in [
            ("mysql://me:secret@db/yard", "postgres://"),
            ("postgres://me:secret@db:port/yard", "of the form"),
            ("postgres://me:secret@db/yard?nonsense=secret", "of the form"),
            ("postgres://me:secret@db", "no database"),
            ("postgres:///yard?user=secret", "no host"),
            ("postgres://me:secret@db/yard?sslmode=require", "sslmode=require"),
        ] {
            let refusal = text.parse::<Address>().unwrap_err().to_string();
            assert!(refusal.contains(expect) && !refusal.contains("secret"), "{text}: {refusal}");
        }
    }
}
