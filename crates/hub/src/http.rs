//! HTTP with the hub: one agent, redirects that do not carry the token to another host, and what the hub's refusals mean.
//!
//! What is asked for is the business of `client` and `transfer`.

use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode, Uri, header};
use ureq::{Agent, Body};

use crate::Error;
use crate::error::Gate;
use crate::repo::{RepoId, RepoKind};
use crate::settings::{HubSettings, Limits};

/// Redirects to follow (huggingface.co needs one or two).
const REDIRECTS: usize = 5;

/// Longest error text that is read of a refusal.
const REFUSAL_BYTES: u64 = 16 << 10;

/// Why a request gave nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may go well another time.
    Passing {
        /// What happened.
        problem: String,
        /// The server's wish.
        wait: Option<Duration>,
    },
    /// It will not.
    Lasting(Error),
}

impl Failure {
    pub(crate) fn passing(problem: impl Into<String>) -> Self {
        Self::Passing {
            problem: problem.into(),
            wait: None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

/// What a request is about, for its errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub repo: &'a RepoId,
    pub revision: &'a str,
    pub file: Option<&'a str>,
}

/// An answer, and where it came from after redirects.
#[derive(Debug)]
pub(crate) struct Answer {
    pub response: Response<Body>,
    pub address: String,
    /// Headers of the first answer: the hub's own, before it sent us elsewhere.
    pub hub: HeaderMap,
}

/// An agent whose connections end together (`Agent::shutdown`). Proxies are those of the environment.
pub(crate) fn agent(settings: &HubSettings, limits: &Limits) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("billion/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_connect(Some(limits.answer))
        .timeout_recv_response(Some(limits.answer))
        .timeout_per_read(Some(limits.silence))
        .timeout_per_write(Some(limits.silence))
        .input_buffer_size(256 << 10)
        .max_idle_connections_per_host(limits.connections + 1)
        .tls_config(
            ureq::tls::TlsConfig::builder()
                .root_certs(ureq::tls::RootCerts::PlatformVerifier)
                .build(),
        );
    // A hub on this machine is reached directly.
    let here = ["127.0.0.1", "localhost", "[::1]"];
    let direct = settings
        .endpoint
        .parse::<Uri>()
        .is_ok_and(|uri| uri.host().is_some_and(|host| here.contains(&host)));
    if direct { config.proxy(None) } else { config }
        .build()
        .new_agent()
}

/// Scheme, host and port of an address.
fn origin(address: &Uri) -> Option<(&str, &str, u16)> {
    let scheme = address.scheme_str()?;
    let port = address
        .port_u16()
        .unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, address.host()?, port))
}

fn same_origin(a: &str, b: &str) -> bool {
    let (Ok(a), Ok(b)) = (a.parse::<Uri>(), b.parse::<Uri>()) else {
        return false;
    };
    origin(&a).is_some() && origin(&a) == origin(&b)
}

/// The host's name, for people.
pub(crate) fn host(address: &str) -> String {
    address
        .parse::<Uri>()
        .ok()
        .and_then(|uri| uri.authority().map(|a| a.as_str().to_owned()))
        .map_or_else(
            || address.to_owned(),
            |authority| match authority.rsplit_once('@') {
                Some((_, host)) => host.to_owned(),
                None => authority,
            },
        )
}

/// Asks for `address`, follows redirects, and gives the answer whatever its status. The token goes to the endpoint alone.
pub(crate) fn get(
    agent: &Agent,
    settings: &HubSettings,
    address: &str,
    range: Option<(u64, u64)>,
) -> Result<Answer, Failure> {
    let mut address = address.to_owned();
    let mut hub = None;
    for _ in 0..=REDIRECTS {
        let mut request = agent.get(&address);
        if let Some((from, to)) = range {
            request = request.header(header::RANGE, format!("bytes={from}-{}", to - 1));
        }
        if let Some(token) = &settings.token
            && same_origin(&address, &settings.endpoint)
        {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| failure(&address, error))?;
        let hub_headers = hub.get_or_insert_with(|| response.headers().clone());
        if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Answer {
                hub: std::mem::take(hub_headers),
                response,
                address,
            });
        }
        let target = text(response.headers(), "location").ok_or_else(|| {
            Failure::Lasting(Error::Answer {
                host: host(&address),
                problem: format!("{} without saying where to", response.status()),
            })
        })?;
        address = redirected(&address, &target)?;
    }
    Err(Failure::Lasting(Error::Answer {
        host: host(&address),
        problem: format!("more than {REDIRECTS} redirects in a row"),
    }))
}

/// Where `target` leads from `address`; never from an encrypted connection to an open one.
fn redirected(address: &str, target: &str) -> Result<String, Failure> {
    let unusable = |problem: &str| {
        Failure::Lasting(Error::Answer {
            host: host(address),
            problem: format!("{problem}: {}", target.chars().take(80).collect::<String>()),
        })
    };
    let from: Uri = address.parse().map_err(|_| unusable("a redirect"))?;
    let (scheme, _, _) = origin(&from).ok_or_else(|| unusable("a redirect"))?;
    let target_address = if let Some(rest) = target.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if target.starts_with('/') {
        let authority = from.authority().ok_or_else(|| unusable("a redirect"))?;
        format!("{scheme}://{authority}{target}")
    } else {
        target.to_owned()
    };
    let to: Uri = target_address
        .parse()
        .map_err(|_| unusable("a redirect to what is no address"))?;
    match to.scheme_str() {
        Some("https") => Ok(target_address),
        Some("http") if scheme == "http" => Ok(target_address),
        _ => Err(unusable("a redirect to an unencrypted address")),
    }
}

/// Everything that goes wrong below HTTP passes, as far as one can know; but a bad address or certificate does not.
pub(crate) fn failure(address: &str, error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Http(_) | ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => {
            Failure::Lasting(Error::Answer {
                host: host(address),
                problem: error.to_string(),
            })
        }
        ureq::Error::Timeout(_) => Failure::passing("no answer in time"),
        ureq::Error::HostNotFound => Failure::passing("its name is not known here"),
        ureq::Error::Io(error) => Failure::passing(io_words(&error)),
        other => Failure::passing(other.to_string()),
    }
}

pub(crate) fn io_words(error: &std::io::Error) -> String {
    use std::io::ErrorKind;

    match error.kind() {
        ErrorKind::ConnectionRefused => "it refused the connection".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            "it closed the connection".to_owned()
        }
        ErrorKind::UnexpectedEof => "the connection ended early".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "it fell silent".to_owned(),
        _ => error.to_string(),
    }
}

pub(crate) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

/// Turns a status that is no success into what it means.
pub(crate) fn refusal(settings: &HubSettings, subject: Subject, answer: Answer) -> Failure {
    let Answer {
        mut response,
        address,
        ..
    } = answer;
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Failure::Passing {
            problem: "it asks for fewer requests (429)".to_owned(),
            wait: wished_wait(response.headers()),
        };
    }
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        return Failure::Passing {
            problem: format!("it answered {status}"),
            wait: wished_wait(response.headers()),
        };
    }
    // Storage that the hub sent us to: its signed addresses run out.
    if !same_origin(&address, &settings.endpoint) {
        return Failure::passing(format!("it answered {status}"));
    }
    let code = text(response.headers(), "x-error-code").unwrap_or_default();
    let mut message = text(response.headers(), "x-error-message").unwrap_or_default();
    if message.is_empty() {
        message = response
            .body_mut()
            .with_config()
            .limit(REFUSAL_BYTES)
            .read_to_string()
            .unwrap_or_default();
    }
    let page = format!("{}/{}", settings.endpoint, subject.repo.page());
    let tokens = format!("{}/settings/tokens", settings.endpoint);
    let with_token = settings.token.is_some();
    let gated = |gate| Error::Gated {
        repo: subject.repo.id.clone(),
        gate,
        link: page.clone(),
        tokens: tokens.clone(),
    };
    let no_repository = || Error::NoRepository {
        what: match subject.repo.kind {
            RepoKind::Model => "model",
            RepoKind::Dataset => "dataset",
        },
        repo: subject.repo.id.clone(),
        link: page.clone(),
        with_token,
    };
    Failure::Lasting(match (status.as_u16(), code.as_str()) {
        (401 | 403, _) if message.contains("fine-grained token") => gated(Gate::TokenScope),
        (401, _) if with_token && is_bad_token(&message) => Error::BadToken { tokens },
        (401 | 403, "GatedRepo") => gated(gate(status, with_token, &message)),
        (_, "RevisionNotFound") => Error::NoRevision {
            repo: subject.repo.id.clone(),
            revision: subject.revision.to_owned(),
            link: format!("{page}/commits/main"),
        },
        (_, "EntryNotFound") => no_file(subject),
        (404, "") if subject.file.is_some() => no_file(subject),
        // The hub says 401 of repositories that are not there to those who are not logged in.
        (401 | 404, _) => no_repository(),
        _ => Error::Answer {
            host: host(&address),
            problem: match one_line(&message) {
                message if message.is_empty() => status.to_string(),
                message => format!("{status}, {message}"),
            },
        },
    })
}

fn no_file(subject: Subject) -> Error {
    Error::NoFile {
        repo: subject.repo.id.clone(),
        revision: subject.revision.to_owned(),
        file: subject.file.unwrap_or_default().to_owned(),
        has: Vec::new(),
    }
}

/// What the hub says of a token it does not know (huggingface_hub, `hf_raise_for_status`).
fn is_bad_token(message: &str) -> bool {
    message.contains("Invalid credentials") || message.contains("Invalid username or password")
}

/// Which of the cases a gated repository's refusal is, by the hub's own words.
fn gate(status: StatusCode, with_token: bool, message: &str) -> Gate {
    if message.contains("awaiting a review") {
        Gate::Waiting
    } else if message.contains("rejected") {
        Gate::Denied
    } else if status == StatusCode::UNAUTHORIZED || !with_token {
        Gate::NoToken
    } else {
        Gate::NotAccepted
    }
}

/// How long the server wants to be left alone: `Retry-After` in seconds, or what is left of the hub's window
/// (`RateLimit: "api";r=0;t=55`, draft-ietf-httpapi-ratelimit-headers-09).
fn wished_wait(headers: &HeaderMap) -> Option<Duration> {
    let after = text(headers, "retry-after").and_then(|text| text.parse::<u64>().ok());
    let window = || {
        let limit = text(headers, "ratelimit")?;
        let field = |name: &str| {
            limit
                .split(';')
                .find_map(|part| part.trim().strip_prefix(name)?.parse::<u64>().ok())
        };
        (field("r=")? == 0).then(|| field("t="))?
    };
    after.or_else(window).map(Duration::from_secs)
}

/// The first 160 characters, in one line.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say_and_never_out_of_encryption() {
        let from = "https://hub.example/a/b?c=d";
        let to = |target: &str| redirected(from, target).map_err(|f| format!("{f:?}"));
        assert_eq!(to("/x/y?z=1").as_deref(), Ok("https://hub.example/x/y?z=1"));
        assert_eq!(
            to("//cdn.example/f").as_deref(),
            Ok("https://cdn.example/f")
        );
        assert_eq!(
            to("https://cdn.example/f").as_deref(),
            Ok("https://cdn.example/f")
        );
        for bad in [
            "http://cdn.example/f",
            "ftp://x/y",
            "file:///etc/passwd",
            "x",
        ] {
            assert!(to(bad).is_err(), "{bad}");
        }
        assert!(redirected("http://localhost:1/a", "http://localhost:2/b").is_ok());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(same_origin("https://a.b/x", "https://a.b:443/y"));
        for other in ["http://a.b/", "https://a.b:8443/", "https://b.a/", "junk"] {
            assert!(!same_origin("https://a.b/x", other), "{other}");
        }
        assert_eq!(host("https://user:secret@a.b:1/x?y"), "a.b:1");
    }

    #[test]
    fn servers_may_wish_for_a_wait() {
        let mut headers = HeaderMap::new();
        assert_eq!(wished_wait(&headers), None);
        let value = |text: &'static str| header::HeaderValue::from_static(text);
        headers.insert("ratelimit", value("\"api\";r=12;t=55"));
        assert_eq!(wished_wait(&headers), None);
        headers.insert("ratelimit", value("\"api\";r=0;t=55"));
        assert_eq!(wished_wait(&headers), Some(Duration::from_secs(55)));
        headers.insert("retry-after", value("7"));
        assert_eq!(wished_wait(&headers), Some(Duration::from_secs(7)));
    }
}
