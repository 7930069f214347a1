//! Repositories on the Hugging Face Hub: how people name them, and what a revision of one holds.
//!
//! It reads names and the hub's JSON; asking the hub is `hub`, and fetching is `transfer`.

use serde::Deserialize;

use crate::Error;

/// Hosts whose addresses people paste.
const HOSTS: [&str; 4] = [
    "huggingface.co",
    "www.huggingface.co",
    "hf.co",
    "hf-mirror.com",
];

/// The revision that is meant when none is named.
pub const DEFAULT_REVISION: &str = "main";

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// Weights, their configuration and tokenizer.
    Model,
    /// Questions and texts.
    Dataset,
}

impl RepoKind {
    /// "models" or "datasets", as addresses of the API and folders of the cache spell it.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoId {
    /// What it holds.
    pub kind: RepoKind,
    /// `OWNER/NAME`.
    pub id: String,
}

impl std::fmt::Display for RepoId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

impl RepoId {
    /// The repository of this `OWNER/NAME`, if that can be one.
    pub fn new(kind: RepoKind, id: &str) -> Result<Self, Error> {
        let mut parts = id.split('/');
        let whole = matches!(
            (parts.next(), parts.next(), parts.next()),
            (Some(owner), Some(name), None) if is_name(owner) && is_name(name)
        );
        if !whole {
            return Err(Error::Reference {
                reference: id.to_owned(),
                problem: "a repository on the hub is called OWNER/NAME, like hf:HuggingFaceTB/SmolLM2-360M"
                    .to_owned(),
            });
        }
        Ok(Self {
            kind,
            id: id.to_owned(),
        })
    }

    /// Its path below the hub's address, as pages and files have it.
    pub(crate) fn page(&self) -> String {
        match self.kind {
            RepoKind::Model => self.id.clone(),
            RepoKind::Dataset => format!("datasets/{}", self.id),
        }
    }

    /// Its path below the hub's API.
    pub(crate) fn api(&self) -> String {
        format!("api/{}/{}", self.kind.plural(), self.id)
    }
}

/// Letters, digits, '.', '_' and '-' in the hub's order (huggingface_hub, `validate_repo_id`).
fn is_name(name: &str) -> bool {
    (1..=96).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
        && !name.contains("--")
        && !name.contains("..")
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// A branch, tag or commit that is safe to be part of an address and of a path.
fn is_revision(revision: &str) -> bool {
    (1..=200).contains(&revision.len())
        && revision
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.'))
        && !revision.contains("..")
        && revision
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/'))
}

/// Whether a file's path stays inside the folder it is joined to, on every system.
pub(crate) fn is_safe_path(path: &str) -> bool {
    (1..=400).contains(&path.len())
        && path.split('/').all(|part| {
            !part.is_empty() && part != "." && part != ".." && !part.ends_with(['.', ' '])
        })
        && !path.contains(['\\', ':', '\0', '*', '?', '"', '<', '>', '|'])
        && !path.chars().any(char::is_control)
}

/// Where a reference of the hub leads: `hf:OWNER/NAME[@REVISION][/FILE]`, `OWNER/NAME`, or the address of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoReference {
    /// The repository.
    pub repo: RepoId,
    /// Branch, tag or commit.
    pub revision: String,
    /// One file of it.
    pub file: Option<String>,
}

impl RepoReference {
    /// The default revision of a repository.
    pub fn whole(repo: RepoId) -> Self {
        Self {
            repo,
            revision: DEFAULT_REVISION.to_owned(),
            file: None,
        }
    }

    /// Reads a reference. A single word is none: search for it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let fail = |problem: &str| Error::Reference {
            reference: text.to_owned(),
            problem: problem.to_owned(),
        };
        let name = text.strip_prefix("hf:").unwrap_or(text);
        let reference = match name
            .strip_prefix("https://")
            .or_else(|| name.strip_prefix("http://"))
        {
            Some(address) => Self::from_address(address).ok_or_else(|| {
                fail("this address is not one of a model or dataset on huggingface.co; paste that of its page")
            })??,
            None => Self::from_name(name)?,
        };
        if !is_revision(&reference.revision) {
            return Err(fail(
                "a revision is the name of a branch, a tag or a commit",
            ));
        }
        if reference.file.as_ref().is_some_and(|f| !is_safe_path(f)) {
            return Err(fail("this is no path of a file in a repository"));
        }
        Ok(reference)
    }

    /// `OWNER/NAME[@REVISION][/FILE]`; a revision ends at the first slash.
    fn from_name(name: &str) -> Result<Self, Error> {
        let mut parts = name.splitn(3, '/');
        let owner = parts.next().unwrap_or_default();
        let second = parts.next().unwrap_or_default();
        let file = parts.next().filter(|file| !file.is_empty());
        let (name, revision) = second.split_once('@').unwrap_or((second, DEFAULT_REVISION));
        Ok(Self {
            repo: RepoId::new(RepoKind::Model, &format!("{owner}/{name}"))?,
            revision: revision.to_owned(),
            file: file.map(str::to_owned),
        })
    }

    /// `HOST/[datasets/]OWNER/NAME[/tree|blob|resolve|raw/REVISION[/FILE]]`; none if it is another address.
    fn from_address(address: &str) -> Option<Result<Self, Error>> {
        let plain = address.split(['?', '#']).next().unwrap_or_default();
        let decoded = percent_decode(plain)?;
        let (host, path) = decoded.split_once('/')?;
        if !HOSTS.contains(&host.to_ascii_lowercase().as_str()) {
            return None;
        }
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let mut kind = RepoKind::Model;
        match parts.first() {
            Some(&"datasets") => {
                kind = RepoKind::Dataset;
                parts.remove(0);
            }
            Some(&("spaces" | "docs" | "blog" | "papers" | "collections" | "api")) => return None,
            _ => {}
        }
        let (owner, name) = (parts.first()?, parts.get(1)?);
        let repo = match RepoId::new(kind, &format!("{owner}/{name}")) {
            Ok(repo) => repo,
            Err(error) => return Some(Err(error)),
        };
        let mut reference = Self::whole(repo);
        if let Some(&view) = parts.get(2)
            && matches!(view, "tree" | "blob" | "resolve" | "raw")
            && parts.len() > 3
        {
            // refs/pr/N and refs/convert/NAME are the hub's own revisions with slashes.
            let words = if parts[3] == "refs" { 3 } else { 1 };
            let end = (3 + words).min(parts.len());
            reference.revision = parts[3..end].join("/");
            if view != "tree" && end < parts.len() {
                reference.file = Some(parts[end..].join("/"));
            }
        }
        Some(Ok(reference))
    }
}

/// Undoes %XX; none if what it gives is no text.
fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let code = text.get(at + 1..at + 3)?;
            plain.push(u8::from_str_radix(code, 16).ok()?);
            at += 3;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(plain).ok()
}

/// Writes every byte that has a meaning in an address as %XX; slashes too if `slashes` are part of a word.
pub(crate) fn percent_encode(text: &str, slashes: Slashes) -> String {
    use std::fmt::Write as _;

    text.bytes().fold(String::new(), |mut encoded, byte| {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || (byte == b'/' && slashes == Slashes::Separate);
        if plain {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// What a slash is to `percent_encode`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slashes {
    /// Between the parts of a path.
    Separate,
    /// Inside a word.
    Inside,
}

/// The hash by which the hub knows a file's bytes, in lower-case hexadecimal; the name of its blob in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BlobHash {
    /// SHA-256 of the bytes: large files (LFS, Xet).
    Sha256(String),
    /// SHA-1 of git's blob: "blob SIZE\0" and the bytes.
    GitSha1(String),
}

impl BlobHash {
    /// The hash itself.
    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitSha1(hex) => hex,
        }
    }

    /// "SHA-256" or "git SHA-1".
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::GitSha1(_) => "git SHA-1",
        }
    }
}

pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A file of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the repository, parts separated by '/'.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its hash.
    pub hash: BlobHash,
}

/// A revision of a repository, resolved to the commit it stands for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoRevision {
    /// The repository.
    pub repo: RepoId,
    /// What was asked for: a branch, tag or commit.
    pub revision: String,
    /// The commit, 40 digits.
    pub commit: String,
    /// Its files, by path.
    pub files: Vec<RemoteFile>,
    /// Its owner gives access on request only.
    pub gated: bool,
    /// Licence by its card.
    pub license: Option<String>,
}

/// A repository that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The repository.
    pub repo: RepoId,
    /// Downloads of the last month.
    pub downloads: u64,
    /// Its owner gives access on request only.
    pub gated: bool,
    /// "llama", "gpt_neox"; none where the hub does not say.
    pub architecture: Option<String>,
    /// Number of parameters.
    pub params: Option<u64>,
    /// Licence by its tags.
    pub license: Option<String>,
    /// Why Billion cannot run it, as far as the hub's list tells.
    pub problem: Option<String>,
}

/// `false`, "auto" or "manual".
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct ApiGated(serde_json::Value);

impl ApiGated {
    pub(crate) fn is_gated(&self) -> bool {
        self.0.is_string() || self.0 == serde_json::Value::Bool(true)
    }
}

/// What single answers and lists say of a repository's model.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ApiAbout {
    pub downloads: Option<u64>,
    pub config: Option<ApiConfig>,
    pub gguf: Option<ApiGguf>,
    pub safetensors: Option<ApiTotal>,
}

/// `config.json`, or the hub's short form of it.
#[derive(Debug, Deserialize)]
pub(crate) struct ApiConfig {
    pub model_type: Option<String>,
    pub quantization_config: Option<ApiQuantization>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ApiQuantization {
    pub quant_method: Option<String>,
}

/// What the hub read in the header of the first GGUF file.
#[derive(Debug, Deserialize)]
pub(crate) struct ApiGguf {
    pub architecture: Option<String>,
    pub total: Option<u64>,
}

/// Number of parameters of the safetensors.
#[derive(Debug, Deserialize)]
pub(crate) struct ApiTotal {
    pub total: Option<u64>,
}

/// `/api/models/ID/revision/REV?blobs=true`, the fields that are used.
#[derive(Debug, Deserialize)]
pub(crate) struct ApiRevision {
    sha: String,
    #[serde(default)]
    siblings: Vec<ApiSibling>,
    #[serde(default)]
    gated: ApiGated,
    #[serde(default, flatten)]
    about: ApiAbout,
    #[serde(default, rename = "cardData")]
    card: Option<ApiCard>,
}

#[derive(Debug, Deserialize)]
struct ApiCard {
    #[serde(default)]
    license: serde_json::Value,
    #[serde(default)]
    license_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiSibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<ApiLfs>,
}

/// An entry of `/api/models/ID/tree/REV?recursive=true`.
#[derive(Debug, Deserialize)]
pub(crate) struct ApiTreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    size: Option<u64>,
    oid: Option<String>,
    lfs: Option<ApiLfs>,
}

#[derive(Debug, Deserialize)]
struct ApiLfs {
    size: u64,
    #[serde(alias = "oid")]
    sha256: String,
}

/// An entry of `/api/models?search=WORD`.
#[derive(Debug, Deserialize)]
pub(crate) struct ApiFound {
    pub id: String,
    #[serde(default)]
    pub gated: ApiGated,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default, flatten)]
    pub about: ApiAbout,
}

impl ApiRevision {
    /// Whether some file came without its size or hash, so that the tree has to be read too.
    pub(crate) fn lacks_sizes(&self) -> bool {
        self.siblings
            .iter()
            .any(|file| file.lfs.is_none() && (file.size.is_none() || file.blob_id.is_none()))
    }

    /// What it says of the model.
    pub(crate) fn take_about(&mut self) -> ApiAbout {
        std::mem::take(&mut self.about)
    }

    /// The commit, for reading its tree.
    pub(crate) fn commit(&self) -> &str {
        &self.sha
    }

    /// Checks what the hub said; `tree` takes the place of its list of files, if it was read.
    pub(crate) fn revision(
        self,
        reference: &RepoReference,
        tree: Option<Vec<ApiTreeEntry>>,
    ) -> Result<RepoRevision, String> {
        if !is_hex(&self.sha, 40) {
            return Err(format!("{:?} is no commit", cut(&self.sha)));
        }
        let mut files = Vec::new();
        match tree {
            Some(entries) => {
                for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
                    files.push(file(entry.path, entry.size, entry.oid, entry.lfs)?);
                }
            }
            None => {
                for entry in self.siblings {
                    files.push(file(entry.rfilename, entry.size, entry.blob_id, entry.lfs)?);
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        let license = self.card.and_then(|card| {
            card.license_name
                .or_else(|| card.license.as_str().map(str::to_owned))
        });
        Ok(RepoRevision {
            repo: reference.repo.clone(),
            revision: reference.revision.clone(),
            commit: self.sha,
            files,
            gated: self.gated.is_gated(),
            license: license.map(|text| text.chars().take(100).collect()),
        })
    }
}

fn file(
    path: String,
    size: Option<u64>,
    blob: Option<String>,
    lfs: Option<ApiLfs>,
) -> Result<RemoteFile, String> {
    if !is_safe_path(&path) {
        return Err(format!("{:?} is no path of a file", cut(&path)));
    }
    let (bytes, hash) = match (lfs, size, blob) {
        (Some(lfs), ..) => {
            // The tree writes the hash bare, older answers with its kind before it.
            let hex = lfs.sha256.strip_prefix("sha256:").unwrap_or(&lfs.sha256);
            (lfs.size, BlobHash::Sha256(hex.to_ascii_lowercase()))
        }
        (None, Some(size), Some(blob)) => (size, BlobHash::GitSha1(blob.to_ascii_lowercase())),
        _ => return Err(format!("no size or hash of {path:?}")),
    };
    let digits = match &hash {
        BlobHash::Sha256(_) => 64,
        BlobHash::GitSha1(_) => 40,
    };
    if !is_hex(hash.hex(), digits) {
        return Err(format!("{:?} is no {}", cut(hash.hex()), hash.name()));
    }
    Ok(RemoteFile { path, bytes, hash })
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

impl RepoRevision {
    /// The file of this path.
    pub fn file(&self, path: &str) -> Result<&RemoteFile, Error> {
        self.files
            .iter()
            .find(|file| file.path == path)
            .ok_or_else(|| Error::NoFile {
                repo: self.repo.id.clone(),
                revision: self.revision.clone(),
                file: path.to_owned(),
                has: self
                    .files
                    .iter()
                    .filter(|file| {
                        let ending = path.rsplit('.').next().unwrap_or_default();
                        file.path.rsplit('.').next() == Some(ending)
                    })
                    .map(|file| file.path.clone())
                    .take(4)
                    .collect(),
            })
    }
}

#[cfg(test)]
mod tests;
