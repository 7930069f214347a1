//! What the hub on loopback answers: the API, the pages of files, and the storage.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Access, Repo, Seen, State, Stored};

pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Arc<Vec<u8>>,
    from: usize,
    to: usize,
    /// It is one of a file: faults of bodies apply.
    file: bool,
}

impl Reply {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            status,
            headers: Vec::new(),
            from: 0,
            to: body.len(),
            body: Arc::new(body),
            file: false,
        }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sends it; false if the connection must end.
    pub(super) fn send(self, state: &Mutex<State>, mut stream: &TcpStream) -> bool {
        let fault = state.lock().expect("no panic").fault.clone();
        let lie = if self.file { fault.length_lie } else { 0 };
        let length = (self.to - self.from) as i64 + lie;
        let head = format!(
            "HTTP/1.1 {} Status\r\ncontent-length: {length}\r\n",
            self.status
        );
        let head = self
            .headers
            .iter()
            .map(|(name, value)| [name, ": ", value, "\r\n"].concat())
            .fold(head, |head, line| head + &line)
            + "\r\n";
        if stream.write_all(head.as_bytes()).is_err() {
            return false;
        }
        if !self.file {
            return stream.write_all(&self.body[self.from..self.to]).is_ok();
        }
        let mut at = self.from;
        while at < self.to {
            let fault = state.lock().expect("no panic").fault.clone();
            let sent = (at - self.from) as u64;
            let block =
                if fault.bytes_per_s.is_some() || fault.cut.is_some() || fault.stall.is_some() {
                    16 << 10
                } else {
                    1 << 20
                };
            let end = (at + block).min(self.to);
            if stream.write_all(&self.body[at..end]).is_err() {
                return false;
            }
            let mut locked = state.lock().expect("no panic");
            locked.sent += (end - at) as u64;
            let sent = sent + (end - at) as u64;
            if let Some((after, times)) = &mut locked.fault.cut
                && *times > 0
                && sent >= *after
            {
                *times -= 1;
                return false;
            }
            let mut stalls = false;
            if let Some((after, times)) = &mut locked.fault.stall
                && *times > 0
                && sent >= *after
            {
                *times -= 1;
                stalls = true;
            }
            drop(locked);
            if stalls {
                std::thread::sleep(Duration::from_secs(20));
                return false;
            }
            if let Some(rate) = fault.bytes_per_s {
                std::thread::sleep(Duration::from_secs_f64((end - at) as f64 / rate as f64));
            }
            at = end;
        }
        lie == 0
    }
}

fn take(count: &mut usize) -> bool {
    if *count == 0 {
        return false;
    }
    *count -= 1;
    true
}

fn too_many(fault: &mut Option<(u64, usize)>) -> Option<Reply> {
    let (seconds, times) = fault.as_mut()?;
    let reply = Reply::new(429, "Too Many Requests").with("Retry-After", seconds.to_string());
    take(times).then_some(reply)
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status, format!("{{\"error\":{message:?}}}"))
        .with("X-Error-Code", code)
        .with("X-Error-Message", message)
}

fn no_repository() -> Reply {
    refusal(401, "RepoNotFound", "Repository not found")
}

fn no_revision(revision: &str) -> Reply {
    let message = format!("Invalid rev id: {revision}");
    refusal(404, "RevisionNotFound", &message)
}

/// What a token that the hub does not know gets.
fn bad_token(state: &State, token: Option<&str>) -> Option<Reply> {
    let token = token?;
    let known = state.accounts.is_empty() || state.accounts.contains_key(token);
    (!known || state.revoked.contains(token))
        .then(|| refusal(401, "", "Invalid credentials in Authorization header"))
}

/// What stands between a token and the files of a gated repository.
fn gate(repo: &Repo, name: &str, token: Option<&str>) -> Option<Reply> {
    if !repo.gated {
        return None;
    }
    let Some(token) = token else {
        let message = format!(
            "Access to model {name} is restricted. You must have access to it and be authenticated to access it. Please log in."
        );
        return Some(refusal(401, "GatedRepo", &message));
    };
    let message = match repo.answers.get(token) {
        Some(Access::Granted) => return None,
        Some(Access::Waiting) => format!(
            "Your request to access model {name} is awaiting a review from the repo authors."
        ),
        Some(Access::Denied) => {
            format!("Your request to access model {name} has been rejected by the repo's authors.")
        }
        None => format!(
            "Access to model {name} is restricted and you are not in the authorized list. Visit https://huggingface.co/{name} to ask for access."
        ),
    };
    Some(refusal(403, "GatedRepo", &message))
}

impl State {
    /// The files of a revision that is named or a commit, and its name.
    fn files<'a>(&self, repo: &'a Repo, revision: &str) -> Option<(&'a str, &'a [Stored])> {
        let wanted = match revision {
            "refs/pr/1" => "main",
            revision => revision,
        };
        repo.revisions
            .iter()
            .find(|(name, _)| *name == wanted || self.commit_of(name) == wanted)
            .map(|(name, files)| (name.as_str(), &files[..]))
    }
}

/// The API and the pages of files.
pub(super) fn hub(state: &mut State, seen: &Seen) -> Reply {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    if let Some(reply) = bad_token(state, seen.token.as_deref()) {
        return reply;
    }
    if let Some(api) = path.strip_prefix("/api/") {
        if let Some(reply) = too_many(&mut state.fault.too_many_questions) {
            return reply;
        }
        return self::api(state, api, query, seen.token.as_deref());
    }
    let Some((repo, rest)) = path.split_once("/resolve/") else {
        return Reply::new(404, "Not Found");
    };
    let key = match repo.strip_prefix("/datasets/") {
        Some(id) => format!("datasets/{id}"),
        None => format!("models{repo}"),
    };
    if let Some((status, code, message)) = state.fault.refusal.clone() {
        return refusal(status, code, &message);
    }
    let Some(repo) = state.repos.get(&key) else {
        return no_repository();
    };
    let name = key.split_once('/').map_or("", |(_, name)| name);
    if let Some(reply) = gate(repo, name, seen.token.as_deref()) {
        return reply;
    }
    let (revision, file) = rest.split_once('/').unwrap_or((rest, ""));
    let Some((revision, files)) = state.files(repo, &revision.replace("%2F", "/")) else {
        return no_revision(revision);
    };
    let commit = state.commit_of(revision);
    let file = file.replace("%20", " ");
    let Some(file) = files.iter().find(|stored| stored.path == file).cloned() else {
        return refusal(404, "EntryNotFound", "Entry not found");
    };
    if let Some(reply) = too_many(&mut state.fault.too_many) {
        return reply;
    }
    if take(&mut state.fault.broken) {
        return Reply::new(500, "Internal Error");
    }
    if file.large {
        let etag = state.fault.etag.clone().unwrap_or(file.hash.clone());
        return Reply::new(302, "Found. Redirecting")
            .with(
                "Location",
                format!("{}/storage/{}?X-Amz-Signature=x", state.storage, file.hash),
            )
            .with("X-Repo-Commit", commit)
            .with("X-Linked-Etag", format!("\"{etag}\""))
            .with("X-Linked-Size", file.bytes.len().to_string());
    }
    body(state, seen, &file.bytes, &file.hash).with("X-Repo-Commit", commit)
}

fn api(state: &State, api: &str, query: &str, token: Option<&str>) -> Reply {
    let parts: Vec<&str> = api.split('/').collect();
    if parts == ["whoami-v2"] {
        let name = match token {
            Some(token) => state.accounts.get(token).map_or("somebody", String::as_str),
            None => return refusal(401, "", "Invalid username or password."),
        };
        return Reply::new(
            200,
            format!(
                "{{\"type\":\"user\",\"id\":\"6\",\"name\":{name:?},\"orgs\":[],\"auth\":{{\"type\":\"access_token\",\"accessToken\":{{\"displayName\":\"laptop\",\"role\":\"read\"}}}}}}"
            ),
        );
    }
    if parts.len() == 1 {
        return search(state, parts[0], query);
    }
    let key = parts.iter().take(3).copied().collect::<Vec<_>>().join("/");
    let Some(repo) = state.repos.get(&key) else {
        return no_repository();
    };
    let what = parts.get(3).copied().unwrap_or_default();
    let revision = parts.get(4).copied().unwrap_or_default();
    let Some((name, files)) = state.files(repo, &revision.replace("%2F", "/")) else {
        return no_revision(revision);
    };
    if what == "tree" {
        return tree(state, files, api, query);
    }
    let siblings: Vec<String> = files
        .iter()
        .map(|file| {
            if state.fault.names_only || !query.contains("blobs=true") {
                return format!("{{\"rfilename\":{:?}}}", file.path);
            }
            format!(
                "{{\"rfilename\":{:?},\"size\":{},\"blobId\":\"{}\"{}}}",
                file.path,
                file.bytes.len(),
                &file.hash[..40],
                lfs(file, "sha256")
            )
        })
        .collect();
    Reply::new(
        200,
        format!(
            "{{{},\"sha\":\"{}\",\"cardData\":{{\"license\":\"mit\"}},\"siblings\":[{}]}}",
            about(repo, &parts[1..3].join("/")),
            state.commit_of(name),
            siblings.join(",")
        ),
    )
}

/// What lists and single answers say of a repository.
fn about(repo: &Repo, id: &str) -> String {
    let more = match repo.about.as_str() {
        "" => "\"downloads\":7".to_owned(),
        fields => fields.to_owned(),
    };
    let gated = if repo.gated { "\"manual\"" } else { "false" };
    format!("\"id\":{id:?},\"gated\":{gated},{more}")
}

fn search(state: &State, kind: &str, query: &str) -> Reply {
    let word = query
        .split('&')
        .find_map(|part| part.strip_prefix("search="))
        .unwrap_or_default()
        .to_lowercase();
    let found: Vec<String> = state
        .repos
        .iter()
        .filter_map(|(key, repo)| Some((key.strip_prefix(&format!("{kind}/"))?, repo)))
        .filter(|(id, _)| id.to_lowercase().contains(&word))
        .map(|(id, repo)| format!("{{{}}}", about(repo, id)))
        .collect();
    Reply::new(200, format!("[{}]", found.join(",")))
}

/// Two pages, the second named by the first.
fn tree(state: &State, files: &[Stored], api: &str, query: &str) -> Reply {
    let half = files.len() / 2;
    let second = query.contains("cursor=2");
    let part = if second {
        &files[half..]
    } else {
        &files[..half]
    };
    let entries: Vec<String> = part
        .iter()
        .map(|file| {
            let lfs = lfs(file, "oid");
            format!(
                "{{\"type\":\"file\",\"oid\":\"{}\",\"size\":{},\"path\":{:?}{lfs}}}",
                &file.hash[..40],
                file.bytes.len(),
                file.path
            )
        })
        .collect();
    let reply = Reply::new(200, format!("[{}]", entries.join(",")));
    if second {
        return reply;
    }
    let next = format!("{}/api/{api}?{query}&cursor=2", state.hub);
    reply.with("Link", format!("<{next}>; rel=\"next\""))
}

fn lfs(file: &Stored, hash: &str) -> String {
    if !file.large {
        return String::new();
    }
    format!(
        ",\"lfs\":{{\"{hash}\":\"{}\",\"size\":{},\"pointerSize\":134}}",
        file.hash,
        file.bytes.len()
    )
}

/// Signed addresses of large files.
pub(super) fn storage(state: &mut State, seen: &Seen) -> Reply {
    if take(&mut state.fault.expired) {
        return Reply::new(403, "<Error><Code>AccessDenied</Code></Error>");
    }
    let hash = seen
        .path
        .strip_prefix("/storage/")
        .and_then(|rest| rest.split('?').next())
        .unwrap_or_default();
    let Some(file) = state
        .repos
        .values()
        .flat_map(|repo| repo.revisions.values().flatten())
        .find(|file| file.hash == hash)
        .cloned()
    else {
        return Reply::new(404, "<Error><Code>NoSuchKey</Code></Error>");
    };
    let mut bytes = file.bytes;
    if let Some(at) = state.fault.wrong_byte {
        let mut wrong = bytes.to_vec();
        wrong[at] ^= 1;
        bytes = Arc::new(wrong);
    }
    // Storage has etags of its own.
    body(state, seen, &bytes, "d41d8cd98f00b204e9800998ecf8427e-12")
}

fn body(state: &State, seen: &Seen, bytes: &Arc<Vec<u8>>, etag: &str) -> Reply {
    let range = seen
        .range
        .as_deref()
        .filter(|_| !state.fault.ignores_range)
        .and_then(|range| range.strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
        .and_then(|(from, to)| Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()? + 1)));
    let (status, from, to) = match range {
        None => (200, 0, bytes.len()),
        Some((from, to)) if from < bytes.len() && from < to => (206, from, to.min(bytes.len())),
        Some(_) => return Reply::new(416, ""),
    };
    let total = bytes.len() as i64 + state.fault.length_lie;
    let reply = Reply {
        status,
        headers: Vec::new(),
        body: Arc::clone(bytes),
        from,
        to,
        file: true,
    }
    .with("ETag", format!("\"{etag}\""))
    .with("Accept-Ranges", "bytes");
    if status == 206 {
        return reply.with("Content-Range", format!("bytes {from}-{}/{total}", to - 1));
    }
    reply
}
