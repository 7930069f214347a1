//! Tokens: which one is in force, where it is saved, to whom it is sent, and what the hub says of it.

use std::sync::{Arc, Mutex};

use bench::{Bench, MB, REPO, impatient, line, read};
use billion_hub::{Control, Error, Hub, HubSettings, Keychain, TokenPlace};
use loopback::noise;

mod bench;
mod loopback;

/// A keychain in memory, or one that says why it cannot be used.
#[derive(Debug, Default)]
struct Memory {
    secret: Mutex<Option<String>>,
    trouble: Option<&'static str>,
}

impl Memory {
    fn broken() -> Arc<Self> {
        Arc::new(Self {
            trouble: Some("none is running"),
            ..Self::default()
        })
    }

    fn usable(&self) -> Result<std::sync::MutexGuard<'_, Option<String>>, String> {
        match self.trouble {
            Some(trouble) => Err(trouble.to_owned()),
            None => Ok(self.secret.lock().expect("no panic")),
        }
    }
}

impl Keychain for Memory {
    fn read(&self) -> Result<Option<String>, String> {
        Ok(self.usable()?.clone())
    }

    fn write(&self, secret: &str) -> Result<(), String> {
        *self.usable()? = Some(secret.to_owned());
        Ok(())
    }

    fn remove(&self) -> Result<(), String> {
        *self.usable()? = None;
        Ok(())
    }
}

/// A hub that knows two accounts, and a token file to be.
fn bench() -> (Bench, HubSettings) {
    let bench = Bench::new();
    bench.server.account("hf_ada_0123456789", "ada");
    bench.server.account("hf_bob_0123456789", "bob");
    let settings = HubSettings {
        token_file: Some(bench.dir.path().join("home/token")),
        ..bench.settings()
    };
    (bench, settings)
}

fn hub(settings: &HubSettings, keychain: &Arc<Memory>) -> Hub {
    Hub::new(settings.clone(), impatient()).with_keychain(keychain.clone())
}

fn file(settings: &HubSettings) -> std::path::PathBuf {
    settings.token_file.clone().expect("set")
}

#[test]
fn a_token_is_saved_in_the_keychain_and_forgotten_again() {
    let (bench, settings) = bench();
    let keychain = Arc::new(Memory::default());
    let hub = hub(&settings, &keychain);
    let none = hub.account();
    assert_eq!(
        (none.place, none.token_end.clone(), none.note.clone()),
        (TokenPlace::Nowhere, None, None)
    );
    assert_eq!(
        hub.check_account(&Control::new()).expect("nothing to ask"),
        none
    );
    let saved = hub
        .save_token(" hf_ada_0123456789\n", &Control::new())
        .expect("saved");
    assert_eq!(
        (saved.place, saved.user.as_deref()),
        (TokenPlace::Keychain, Some("ada"))
    );
    assert_eq!(saved.token_end.as_deref(), Some("…6789"));
    assert_eq!(saved.note, None);
    assert!(!file(&settings).exists());
    assert_eq!(
        keychain.read().expect("read").as_deref(),
        Some("hf_ada_0123456789")
    );

    // It is used from then on, and goes to the hub alone.
    bench.server.put(REPO, "model.gguf", noise(MB, 1));
    bench.server.seen();
    hub.fetch_model("owner/name", &Control::new(), &mut |_| {})
        .expect("fetched");
    let seen = bench.server.seen();
    assert!(seen.iter().any(|request| request.storage));
    for request in &seen {
        let token = (!request.storage).then(|| "hf_ada_0123456789".to_owned());
        assert_eq!(request.token, token, "{request:?}");
    }

    let account = hub.check_account(&Control::new()).expect("known");
    assert_eq!(account.user.as_deref(), Some("ada"));
    bench.server.revoke("hf_ada_0123456789");
    let error = hub.check_account(&Control::new()).expect_err("taken back");
    assert!(matches!(error, Error::BadToken { .. }), "{error:?}");
    assert_eq!(error.link(), Some(account.tokens_page.as_str()));
    assert_eq!(hub.forget_token().expect("forgotten"), none);
    assert_eq!(keychain.read(), Ok(None));
}

#[test]
fn without_a_keychain_a_token_lies_in_a_file_that_others_cannot_read_and_this_is_said() {
    let (_bench, settings) = bench();
    let keychain = Memory::broken();
    let hub = hub(&settings, &keychain);
    let note = hub.account().note.expect("a warning beforehand");
    assert!(note.contains("none is running") && note.contains("unencrypted"));
    let saved = hub
        .save_token("hf_bob_0123456789", &Control::new())
        .expect("saved");
    assert_eq!(
        (saved.place, saved.user.as_deref()),
        (TokenPlace::File, Some("bob"))
    );
    let note = saved.note.expect("a warning");
    assert!(
        note.contains("none is running")
            && note.contains("lies unencrypted in")
            && note.contains("this account alone may read"),
        "{note}"
    );
    assert_eq!(read(&file(&settings)), b"hf_bob_0123456789");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        let mode = || {
            std::fs::metadata(file(&settings))
                .expect("there")
                .permissions()
        };
        assert_eq!(mode().mode() & 0o777, 0o600);
        // As Python leaves it on some machines.
        std::fs::set_permissions(file(&settings), PermissionsExt::from_mode(0o644)).expect("set");
        let note = hub.account().note.expect("a warning");
        assert!(note.contains("chmod 600"), "{note}");
        hub.save_token("hf_bob_0123456789", &Control::new())
            .expect("saved");
        assert_eq!(mode().mode() & 0o777, 0o600);
    }
    // A program that starts later finds it, without a keychain too.
    let later = Hub::new(settings.clone(), impatient());
    assert_eq!(later.account().place, TokenPlace::File);
    assert_eq!(
        hub.forget_token().expect("forgotten").place,
        TokenPlace::Nowhere
    );
    assert!(!file(&settings).exists());
}

#[test]
fn the_environment_wins_over_the_keychain_and_that_over_the_file() {
    let (_bench, settings) = bench();
    let keychain = Arc::new(Memory::default());
    std::fs::create_dir_all(file(&settings).parent().expect("above")).expect("made");
    std::fs::write(file(&settings), "hf_file_0123456789\n").expect("written");
    let plain = hub(&settings, &keychain);
    assert_eq!(plain.account().place, TokenPlace::File);
    plain
        .save_token("hf_ada_0123456789", &Control::new())
        .expect("saved");
    assert_eq!(plain.account().place, TokenPlace::Keychain);
    let with_variable = hub(
        &HubSettings {
            token: Some("hf_bob_0123456789".to_owned()),
            ..settings.clone()
        },
        &keychain,
    );
    let account = with_variable.check_account(&Control::new()).expect("known");
    assert_eq!(
        (account.place, account.user.as_deref()),
        (TokenPlace::Environment, Some("bob"))
    );
    assert!(account.note.expect("told").contains("HF_TOKEN is set"));
    // What another tool saved is not Billion's to remove: it comes into force.
    let left = plain.forget_token().expect("forgotten");
    assert_eq!(left.place, TokenPlace::File);
    assert_eq!(read(&file(&settings)), b"hf_file_0123456789\n");
}

#[test]
fn what_is_no_token_or_not_known_is_not_saved_and_what_cannot_be_asked_about_is() {
    let (bench, settings) = bench();
    let keychain = Arc::new(Memory::default());
    let hub = hub(&settings, &keychain);
    let save = |token: &str| hub.save_token(token, &Control::new());
    for bad in ["", "two words", "line\nbreak", "ümlaut"] {
        let error = save(bad).expect_err("no token");
        assert!(matches!(error, Error::NoToken { .. }), "{bad:?}: {error}");
        line(&error);
    }
    let error = save("hf_nobody_0123456789").expect_err("unknown");
    assert!(matches!(error, Error::BadToken { .. }), "{error:?}");
    assert_eq!(keychain.read(), Ok(None));
    bench.server.fault(|fault| fault.down = true);
    let account = save("hf_ada_0123456789").expect("saved");
    assert_eq!((account.place, account.user), (TokenPlace::Keychain, None));
    assert!(
        account
            .note
            .expect("told")
            .contains("could not be asked whose it is")
    );
}
