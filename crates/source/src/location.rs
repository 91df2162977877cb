//! Where a repository is. There is one reader of locations, and what git gets is written anew from what was read: so no two
//! readers can understand one text differently.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{Error, Result};

/// Bytes of a location.
const LENGTH: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Https,
    Http,
    Ssh,
}

impl Scheme {
    /// As URLs and git's settings have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Https => "https",
            Scheme::Http => "http",
            Scheme::Ssh => "ssh",
        }
    }
}

/// Who keeps a repository, as far as that says where it may be. COMPAT: SA-001, SA-003.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    CodeCommit,
    GitHub,
    GitHubEnterprise,
    GitLab,
    GitLabSelfManaged,
    Bitbucket,
    /// Whatever one has: `buildyard run`.
    Any,
}

/// A repository's URL, read and found sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    scheme: Scheme,
    /// Of ssh only.
    user: Option<String>,
    /// A name in small letters, an IPv4 address, or an IPv6 address in brackets.
    host: String,
    port: Option<u16>,
    /// With a slash at its beginning.
    path: String,
    /// Of ssh only: the path begins at the user's home, and not at the root.
    from_home: bool,
}

impl Location {
    /// Reads `https://host[:port]/path`, `http://...`, `ssh://[user@]host[:port]/path` and `user@host:path`.
    ///
    /// # Errors
    /// [`Error::Location`] for everything else.
    pub fn parse(text: &str) -> Result<Location> {
        parse(text).map_err(|rule| Error::Location { location: text.chars().take(200).collect(), rule })
    }

    /// A location where this provider has its repositories.
    ///
    /// # Errors
    /// As [`Location::parse`].
    pub fn of(provider: Provider, text: &str) -> Result<Location> {
        let location = Location::parse(text)?;
        match provider.objection(&location) {
            Some(rule) => Err(Error::Location { location: text.chars().take(200).collect(), rule }),
            None => Ok(location),
        }
    }

    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// As in the URL: an IPv6 address has its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme {
            Scheme::Https => 443,
            Scheme::Http => 80,
            Scheme::Ssh => 22,
        })
    }

    /// The host, if it is an address itself.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.trim_matches(['[', ']']).parse().ok()
    }

    /// Whether it is a repository of AWS CodeCommit.
    #[must_use]
    pub fn is_codecommit(&self) -> bool {
        let rest = self.host.strip_prefix("git-codecommit.");
        let rest = rest.or_else(|| self.host.strip_prefix("git-codecommit-fips."));
        rest.is_some_and(|rest| rest.ends_with(".amazonaws.com") || rest.ends_with(".amazonaws.com.cn"))
            && self.path.starts_with("/v1/repos/")
    }

    /// Host and port as files of known hosts have them.
    #[must_use]
    pub fn known_as(&self) -> String {
        let host = self.host.trim_matches(['[', ']']);
        match self.port() {
            22 => host.to_owned(),
            port => format!("[{host}]:{port}"),
        }
    }

    /// Scheme, host and port: what a credential is for.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = self.scheme.name();
        match self.port {
            Some(port) => format!("{scheme}://{}:{port}", self.host),
            None => format!("{scheme}://{}", self.host),
        }
    }

    /// COMPAT: EN-081 where it lies below the folder of sources: `github.com/owner/repo`.
    #[must_use]
    pub fn folder(&self) -> String {
        let host = self.host.trim_matches(['[', ']']).replace(':', "_");
        let path = self.path.trim_matches('/');
        format!(
            "{host}/{}",
            path.strip_suffix(".git").filter(|rest| !rest.is_empty() && !rest.ends_with('/')).unwrap_or(path)
        )
    }

    /// What a repository of this location calls `url`: another location, or a path that starts from here.
    ///
    /// # Errors
    /// [`Error::Location`].
    pub fn join(&self, url: &str) -> Result<Location> {
        if !url.starts_with("./") && !url.starts_with("../") {
            return Location::parse(url);
        }
        let wrong = |rule| Error::Location { location: url.chars().take(200).collect(), rule };
        let mut path: Vec<&str> = self.path.trim_matches('/').split('/').collect();
        for part in url.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(path.pop().ok_or_else(|| wrong("it leads above the host"))?),
                part => path.push(part),
            }
        }
        // Written and read again: the rules for a whole URL hold for what is put together as well.
        Location::parse(&Location { path: format!("/{}", path.join("/")), ..self.clone() }.to_string())
    }
}

/// The URL that git gets.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin();
        match &self.user {
            // There is no URL that says so, and a host that is no plain ssh server (GitHub) knows no homes.
            Some(user) if self.from_home => write!(f, "{user}@{}:{}", self.host, &self.path[1..]),
            Some(user) => write!(f, "{}{}", origin.replacen("://", &format!("://{user}@"), 1), self.path),
            None => write!(f, "{origin}{}", self.path),
        }
    }
}

impl Provider {
    /// COMPAT: SA-003 which rule a location breaks.
    fn objection(self, location: &Location) -> Option<&'static str> {
        let is_spoken = match location.scheme {
            Scheme::Https => true,
            Scheme::Http => self == Provider::GitHubEnterprise,
            // CodeCommit's keys are those of IAM users.
            Scheme::Ssh => self != Provider::CodeCommit,
        };
        let is_at = |domain: &str| {
            location.host == domain
                || location.host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        };
        match self {
            Provider::Any => None,
            Provider::CodeCommit if !is_spoken => Some("its scheme must be https"),
            _ if !is_spoken => Some("its scheme must be https or ssh"),
            Provider::GitHub if !is_at("github.com") => Some("a GITHUB repository is at github.com"),
            Provider::Bitbucket if !is_at("bitbucket.org") => {
                Some("a BITBUCKET repository is at bitbucket.org")
            }
            Provider::CodeCommit if !location.is_codecommit() => Some(
                "a CODECOMMIT repository is at https://git-codecommit.REGION.amazonaws.com/v1/repos/NAME",
            ),
            _ => None,
        }
    }
}

fn parse(text: &str) -> Result<Location, &'static str> {
    if text.is_empty() || text.len() > LENGTH {
        return Err("it must have 1 to 2048 bytes");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic())
        || text.contains(['\\', '"', '\'', '`', '<', '>', '{', '}', '|', '^'])
    {
        return Err("it holds a character that no URL has");
    }
    if text.starts_with('-') {
        return Err("it begins with a hyphen");
    }
    match text.split_once("://") {
        Some((scheme, rest)) => parse_url(scheme, rest),
        None => parse_short(text),
    }
}

fn parse_url(scheme: &str, rest: &str) -> Result<Location, &'static str> {
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        "ssh" => Scheme::Ssh,
        _ => return Err("its scheme must be https or ssh"),
    };
    let (authority, path) = rest.split_at(rest.find('/').ok_or("it names no repository")?);
    let (user, authority) = match authority.rsplit_once('@') {
        Some((user, authority)) => (Some(user), authority),
        None => (None, authority),
    };
    let user = user.map(|user| parse_user(scheme, user)).transpose()?;
    let (host, port) = parse_authority(authority)?;
    check_path(path)?;
    Ok(Location { scheme, user, host, port, path: path.to_owned(), from_home: false })
}

/// `user@host:path`, as ssh has it.
fn parse_short(text: &str) -> Result<Location, &'static str> {
    const RULE: &str = "it must begin with https:// or ssh://, or be user@host:path";
    let (authority, path) = text.split_once(':').ok_or(RULE)?;
    if authority.contains('/') || path.starts_with(':') {
        return Err(RULE);
    }
    let (user, host) = authority.split_once('@').ok_or(RULE)?;
    let user = Some(parse_user(Scheme::Ssh, user)?);
    if path.starts_with('-') {
        return Err("its path begins with a hyphen");
    }
    let from_home = !path.starts_with('/');
    let path = if from_home { format!("/{path}") } else { path.to_owned() };
    check_path(&path)?;
    Ok(Location { scheme: Scheme::Ssh, user, host: parse_host(host)?, port: None, path, from_home })
}

fn parse_user(scheme: Scheme, user: &str) -> Result<String, &'static str> {
    if scheme != Scheme::Ssh {
        return Err("it must not hold a user name or password: import source credentials instead");
    }
    let is_sound =
        user.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    match is_sound && !user.is_empty() && !user.starts_with('-') {
        true => Ok(user.to_owned()),
        false => Err("its user name may hold letters, digits, `_`, `-` and `.` only"),
    }
}

fn parse_authority(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_number = |port: &&str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => None,
        Some(port) => {
            let number =
                Some(port).filter(is_number).and_then(|port| port.parse().ok()).filter(|port| *port != 0);
            Some(number.ok_or("its port is not a number from 1 to 65535")?)
        }
    };
    Ok((parse_host(host)?, port))
}

fn parse_host(text: &str) -> Result<String, &'static str> {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| "its host is not an IPv6 address")?;
        return Ok(format!("[{address}]"));
    }
    let host = text.to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(is_label) {
        return Err("its host is neither a name nor an address");
    }
    // A name's last label has a letter. Resolvers take octal, hexadecimal and shortened numbers for addresses as well.
    let last = host.rsplit('.').next().unwrap_or_default();
    let looks_like_number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    if looks_like_number && host.parse::<Ipv4Addr>().is_err() {
        return Err("an address as host must be four decimal numbers");
    }
    Ok(host)
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.contains(['?', '#']) {
        return Err("it must not have a query or a fragment");
    }
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let code = rest.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            None => return Err("a `%` in it is not followed by two hexadecimal digits"),
            Some(code) if code.is_ascii_control() || matches!(code, b'/' | b'\\' | b'.' | b'%') => {
                return Err("an encoded character in it is not allowed there");
            }
            Some(_) => rest = &rest[at + 3..],
        }
    }
    let mut parts = path.trim_matches('/').split('/');
    if path.trim_matches('/').is_empty() {
        return Err("it names no repository");
    }
    if parts
        .any(|part| matches!(part, "" | "." | "..") || part.len() > 255 || part.eq_ignore_ascii_case(".git"))
    {
        return Err("a part of its path is empty, too long, or `.`, `..` or `.git`");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
